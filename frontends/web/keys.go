package web

import (
	"net/http"

	"hongyan/cluster/custody"
)

// keys answers GET /api/v1/keys.
func (s *Server) keys(w http.ResponseWriter, r *http.Request) {
	s.askKeys(w, r, r.URL.Query().Get("node"), custody.Request{})
}

// rotateKeys answers POST /api/v1/keys/rotate. What is wrapped by the newest key already is left alone, so it may be sent again, without
// new_key, until no node has files left.
func (s *Server) rotateKeys(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Node   string `json:"node"`
		NewKey bool   `json:"new_key"`
	}
	if readJSON(w, r, &body) {
		s.cfg.Log.Info("keys are rotated by the API", "node", body.Node, "new_key", body.NewKey, "remote", r.RemoteAddr)
		s.askKeys(w, r, body.Node, custody.Request{Rewrap: true, NewKey: body.NewKey})
	}
}

func (s *Server) askKeys(w http.ResponseWriter, r *http.Request, node string, req custody.Request) {
	list, err := s.cfg.Admin.Keys(r.Context(), node, req)
	s.reply(w, r, map[string][]custody.Report{"nodes": list}, err)
}
