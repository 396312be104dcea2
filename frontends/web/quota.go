package web

import (
	"net/http"

	"hongyan/cluster/client"
)

// quota answers GET /api/v1/quotas/{name}.
func (s *Server) quota(w http.ResponseWriter, r *http.Request) {
	q, err := s.cfg.Admin.Quota(r.Context(), r.PathValue("name"))
	s.reply(w, r, q, err)
}

// patchQuota answers PATCH /api/v1/quotas/{name}.
func (s *Server) patchQuota(w http.ResponseWriter, r *http.Request) {
	var body client.QuotaChange
	if !readJSON(w, r, &body) {
		return
	}
	name := r.PathValue("name")
	if err := s.cfg.Admin.SetQuota(r.Context(), name, body); err != nil {
		s.failed(w, r, err)
		return
	}
	s.cfg.Log.Info("quota set by the API", "name", name, "remote", r.RemoteAddr)
	writeJSON(w, http.StatusOK, map[string]string{"name": name})
}
