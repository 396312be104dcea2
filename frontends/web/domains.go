package web

import (
	"net/http"

	"hongyan/cluster/client"
)

// domains answers GET /api/v1/domains.
func (s *Server) domains(w http.ResponseWriter, r *http.Request) {
	list, err := s.cfg.Admin.Domains(r.Context())
	if err != nil {
		s.failed(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, list)
}

// patchDomain answers PATCH /api/v1/domains/{name}.
func (s *Server) patchDomain(w http.ResponseWriter, r *http.Request) {
	var body client.PolicyChange
	if !readJSON(w, r, &body) {
		return
	}
	name := r.PathValue("name")
	if err := s.cfg.Admin.SetPolicy(r.Context(), name, body); err != nil {
		s.failed(w, r, err)
		return
	}
	s.cfg.Log.Info("policy of a domain set by the API", "domain", name, "remote", r.RemoteAddr)
	writeJSON(w, http.StatusOK, map[string]string{"name": name})
}
