package web

import (
	"net/http"

	"hongyan/cluster/relocate"
)

// moves answers GET /api/v1/moves.
func (s *Server) moves(w http.ResponseWriter, r *http.Request) {
	st, err := s.cfg.Admin.Moves(r.Context())
	if err != nil {
		s.failed(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, st)
}

// postMoves answers POST /api/v1/moves: accounts are to move.
func (s *Server) postMoves(w http.ResponseWriter, r *http.Request) {
	var body relocate.Order
	if !readJSON(w, r, &body) {
		return
	}
	by := 0
	for _, given := range []bool{len(body.Addresses) > 0, body.Domain != "", body.From != 0} {
		if given {
			by++
		}
	}
	if by != 1 || (body.Shard == 0) == (body.Home == "") {
		fail(w, http.StatusBadRequest, "expected one of addresses, domain and from, and one of shard and home")
		return
	}
	planned, err := s.cfg.Admin.MoveAccounts(r.Context(), body)
	if err != nil {
		s.failed(w, r, err)
		return
	}
	s.cfg.Log.Info("accounts are to move, by the API", "planned", planned, "shard", body.Shard, "home", body.Home, "remote", r.RemoteAddr)
	writeJSON(w, http.StatusOK, map[string]uint64{"planned": planned})
}

// cancelMoves answers POST /api/v1/moves/cancel: accounts stay; those of the body, or all.
func (s *Server) cancelMoves(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Addresses []string `json:"addresses"`
	}
	if !readJSON(w, r, &body) {
		return
	}
	canceled, err := s.cfg.Admin.KeepAccounts(r.Context(), body.Addresses)
	if err != nil {
		s.failed(w, r, err)
		return
	}
	s.cfg.Log.Info("moves of accounts canceled by the API", "canceled", canceled, "remote", r.RemoteAddr)
	writeJSON(w, http.StatusOK, map[string]uint64{"canceled": canceled})
}

// postShard answers POST /api/v1/shards: a mailbox shard is added.
func (s *Server) postShard(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Home string `json:"home"`
	}
	if !readJSON(w, r, &body) {
		return
	}
	number, err := s.cfg.Admin.AddShard(r.Context(), body.Home)
	if err != nil {
		s.failed(w, r, err)
		return
	}
	s.cfg.Log.Info("shard added by the API", "shard", number, "home", body.Home, "remote", r.RemoteAddr)
	writeJSON(w, http.StatusOK, map[string]uint32{"number": number})
}
