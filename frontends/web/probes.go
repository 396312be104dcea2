package web

import (
	"io"
	"net/http"
	"strings"
)

// healthz says that the process works.
func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) {
	plain(w, http.StatusOK, "ok\n")
}

// readyz says whether a load balancer should send clients here.
func (s *Server) readyz(w http.ResponseWriter, r *http.Request) {
	reasons := s.cfg.Admin.Ready()
	s.mu.Lock()
	if s.stopped {
		reasons = append(reasons, "the node is stopping")
	}
	s.mu.Unlock()
	code := http.StatusOK
	if len(reasons) > 0 {
		code = http.StatusServiceUnavailable
	}
	switch {
	case strings.Contains(r.Header.Get("Accept"), "application/json"):
		writeJSON(w, code, struct {
			Ready   bool     `json:"ready"`
			Reasons []string `json:"reasons,omitempty"`
		}{len(reasons) == 0, reasons})
	case len(reasons) == 0:
		plain(w, code, "ready\n")
	default:
		lines := make([]string, len(reasons))
		for i, reason := range reasons {
			lines[i] = strings.Join(strings.Fields(reason), " ")
		}
		plain(w, code, strings.Join(lines, "\n")+"\n")
	}
}

// plain answers with a text.
func plain(w http.ResponseWriter, code int, text string) {
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_, _ = io.WriteString(w, text) // a client that is gone needs no answer
}
