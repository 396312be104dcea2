package web

import (
	"net/http"

	"hongyan/cluster/reconcile"
)

// checkAccount answers POST /api/v1/accounts/{address}/check: a part of the check, and where the next one goes on.
func (s *Server) checkAccount(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Repair bool             `json:"repair"`
		After  reconcile.Cursor `json:"after"`
	}
	if !readJSON(w, r, &body) {
		return
	}
	address := r.PathValue("address")
	if body.Repair {
		s.cfg.Log.Info("account checked and mended by the API", "account", address, "remote", r.RemoteAddr)
	}
	v, err := s.cfg.Admin.CheckAccount(r.Context(), address, body.Repair, body.After)
	s.reply(w, r, v, err)
}
