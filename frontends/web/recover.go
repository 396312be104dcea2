package web

import (
	"net/http"

	"hongyan/cluster/recovery"
)

// recovery answers GET /api/v1/recover: the recovery that the node was asked for last, and unless that is under way what one would do now.
func (s *Server) recovery(w http.ResponseWriter, r *http.Request) {
	var answer struct {
		Job  *recovery.Job  `json:"job"`
		Plan *recovery.Plan `json:"plan"`
	}
	if answer.Job = s.cfg.Admin.Recovery(); answer.Job == nil || answer.Job.Done {
		var err error
		if answer.Plan, err = s.cfg.Admin.RecoveryPlan(r.Context()); err != nil {
			s.failed(w, r, err)
			return
		}
	}
	writeJSON(w, http.StatusOK, answer)
}

// recover answers POST /api/v1/recover: 202, and GET says how it goes.
func (s *Server) recover(w http.ResponseWriter, r *http.Request) {
	var body recovery.Request
	if !readJSON(w, r, &body) {
		return
	}
	job, err := s.cfg.Admin.Recover(r.Context(), body)
	if err != nil {
		s.failed(w, r, err)
		return
	}
	s.cfg.Log.Warn("recovery begun by the API", "lost", body.Lost, "shards", body.Shards, "remote", r.RemoteAddr)
	writeJSON(w, http.StatusAccepted, job)
}
