package web

import "net/http"

// scrubReports answers GET /api/v1/scrub.
func (s *Server) scrubReports(w http.ResponseWriter, r *http.Request) {
	writeJSON(w, http.StatusOK, map[string]any{"nodes": s.cfg.Admin.ScrubReports(r.Context())})
}

// startScrub answers POST /api/v1/scrub: which nodes verify how many copies now.
func (s *Server) startScrub(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Volume uint64 `json:"volume"` // 0: all
	}
	if !readJSON(w, r, &body) {
		return
	}
	s.cfg.Log.Info("check of copies begun by the API", "volume", body.Volume, "remote", r.RemoteAddr)
	writeJSON(w, http.StatusAccepted, map[string]any{"nodes": s.cfg.Admin.Scrub(r.Context(), body.Volume)})
}
