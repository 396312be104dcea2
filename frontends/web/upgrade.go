package web

import "net/http"

// upgrade answers GET /api/v1/upgrade.
func (s *Server) upgrade(w http.ResponseWriter, r *http.Request) {
	writeJSON(w, http.StatusOK, s.cfg.Admin.Upgrade(r.Context()))
}

// putUpgrade answers PUT /api/v1/upgrade.
func (s *Server) putUpgrade(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Hold bool `json:"hold"`
	}
	if !readJSON(w, r, &body) {
		return
	}
	status, err := s.cfg.Admin.HoldUpgrade(r.Context(), body.Hold)
	if err != nil {
		s.failed(w, r, err)
		return
	}
	s.cfg.Log.Info("feature level held or released by the API", "held", body.Hold, "remote", r.RemoteAddr)
	writeJSON(w, http.StatusOK, status)
}
