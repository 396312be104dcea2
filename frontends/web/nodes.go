package web

import (
	"net/http"

	"hongyan/cluster/mover"
)

// nodes answers GET /api/v1/nodes.
func (s *Server) nodes(w http.ResponseWriter, r *http.Request) {
	list, err := s.cfg.Admin.Nodes(r.Context())
	s.reply(w, r, map[string]any{"nodes": list}, err)
}

// putNode answers PUT /api/v1/nodes/{id}: a node is let in.
func (s *Server) putNode(w http.ResponseWriter, r *http.Request) {
	var body mover.NewNode
	if !readJSON(w, r, &body) {
		return
	}
	body.ID = r.PathValue("id")
	s.changed(w, r, "node added by the API", s.cfg.Admin.AddNode(r.Context(), body))
}

// patchNode answers PATCH /api/v1/nodes/{id}.
func (s *Server) patchNode(w http.ResponseWriter, r *http.Request) {
	var body mover.NodeChange
	if !readJSON(w, r, &body) {
		return
	}
	s.changed(w, r, "node changed by the API", s.cfg.Admin.ChangeNode(r.Context(), r.PathValue("id"), body))
}

// deleteNode answers DELETE /api/v1/nodes/{id}.
func (s *Server) deleteNode(w http.ResponseWriter, r *http.Request) {
	s.changed(w, r, "node removed by the API", s.cfg.Admin.RemoveNode(r.Context(), r.PathValue("id")))
}

// replaceNode answers POST /api/v1/nodes/{id}/replace. "known" is of a node that runs with the data that it is known with.
func (s *Server) replaceNode(w http.ResponseWriter, r *http.Request) {
	changed, err := s.cfg.Admin.ReplaceNode(r.Context(), r.PathValue("id"))
	if err != nil || changed {
		s.changed(w, r, "node replaced by the API", err)
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{"id": r.PathValue("id"), "known": true})
}

// changed ends a request about one node.
func (s *Server) changed(w http.ResponseWriter, r *http.Request, what string, err error) {
	if err != nil {
		s.failed(w, r, err)
		return
	}
	id := r.PathValue("id")
	s.cfg.Log.Info(what, "peer", id, "remote", r.RemoteAddr)
	writeJSON(w, http.StatusOK, map[string]string{"id": id})
}

// placement answers GET /api/v1/placement.
func (s *Server) placement(w http.ResponseWriter, r *http.Request) {
	p, err := s.cfg.Admin.Placement(r.Context())
	s.reply(w, r, p, err)
}

// putPlacement answers PUT /api/v1/placement.
func (s *Server) putPlacement(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Paused bool `json:"paused"`
	}
	if !readJSON(w, r, &body) {
		return
	}
	if err := s.cfg.Admin.PausePlacement(r.Context(), body.Paused); err != nil {
		s.failed(w, r, err)
		return
	}
	s.cfg.Log.Info("placement paused or resumed by the API", "paused", body.Paused, "remote", r.RemoteAddr)
	writeJSON(w, http.StatusOK, body)
}
