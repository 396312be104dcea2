package web

import (
	"fmt"
	"net/http"
	"net/http/pprof"
	"net/url"
	"slices"
	"strconv"
)

// How long a profile over time may take, in seconds: it must end within requestWait.
const (
	usualProfile = 10
	maxProfile   = 25
)

// snapshots are the profiles that need no time.
func snapshots() []string { return []string{"allocs", "goroutine", "heap"} }

// timed are those that watch the process for a while.
func timed() []string { return []string{"profile", "trace"} }

// profiles answers GET /api/v1/debug/pprof/: which there are.
func (s *Server) profiles(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, map[string][]string{"profiles": append(snapshots(), timed()...)})
}

// profile answers GET /api/v1/debug/pprof/{name} in the format of `go tool pprof`, or of `go tool trace`. The
// handlers are called one by one here: what net/http/pprof registers by itself is served nowhere. A second profile over time
// at once is refused by the runtime.
func (s *Server) profile(w http.ResponseWriter, r *http.Request) {
	name, query := r.PathValue("name"), r.URL.Query()
	long := slices.Contains(timed(), name)
	if !long && !slices.Contains(snapshots(), name) {
		missing(w, r, http.StatusNotFound)
		return
	}
	seconds := usualProfile
	if given := query.Get("seconds"); given != "" {
		var err error
		if seconds, err = strconv.Atoi(given); err != nil || seconds < 1 || seconds > maxProfile {
			fail(w, http.StatusBadRequest, fmt.Sprintf("seconds: expected 1 to %d", maxProfile))
			return
		}
	}
	s.cfg.Log.Info("profile taken by the API", "profile", name, "remote", r.RemoteAddr)
	w.Header().Set("Cache-Control", "no-store")
	if !long {
		r.Form = url.Values{"debug": query["debug"], "gc": query["gc"]}
		pprof.Handler(name).ServeHTTP(w, r)
		return
	}
	r.Form = url.Values{"seconds": {strconv.Itoa(seconds)}}
	if name == "trace" {
		pprof.Trace(w, r)
		return
	}
	pprof.Profile(w, r)
}
