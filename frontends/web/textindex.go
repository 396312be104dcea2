package web

import "net/http"

// textIndexes answers GET /api/v1/text-index.
func (s *Server) textIndexes(w http.ResponseWriter, r *http.Request) {
	writeJSON(w, http.StatusOK, map[string]any{"nodes": s.cfg.Admin.TextIndexes(r.Context())})
}

// rebuildTextIndex answers POST /api/v1/text-index/rebuild: how the indexes are, once begun anew.
func (s *Server) rebuildTextIndex(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Node string `json:"node"` // "": all
	}
	if !readJSON(w, r, &body) {
		return
	}
	nodes, err := s.cfg.Admin.RebuildTextIndex(r.Context(), body.Node)
	if err != nil {
		s.failed(w, r, err)
		return
	}
	s.cfg.Log.Info("full-text indexes begun anew by the API", "node", body.Node, "remote", r.RemoteAddr)
	writeJSON(w, http.StatusAccepted, map[string]any{"nodes": nodes})
}
