package web

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"hongyan/cluster/client"
	"hongyan/cluster/wire"
)

const (
	maxPassword = 1024
	alarmGap    = time.Second // between log lines about refused tokens
)

// parseHash reads a SHA-256 in hex.
func parseHash(v string) ([]byte, error) {
	b, err := hex.DecodeString(v)
	if err != nil {
		return nil, err
	}
	if len(b) != sha256.Size {
		return nil, fmt.Errorf("%d bytes, expected %d", len(b), sha256.Size)
	}
	return b, nil
}

// guard lets requests with the token through, a bounded number at a time, each with a deadline and a bounded body.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.authorised(r) {
			s.alarm(r)
			w.Header().Set("WWW-Authenticate", `Bearer realm="hongyan"`)
			fail(w, http.StatusUnauthorized, "the admin API needs `Authorization: Bearer TOKEN` with the right token")
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), requestWait)
		defer cancel()
		select {
		case s.turns <- struct{}{}:
			defer func() { <-s.turns }()
		case <-ctx.Done():
			fail(w, http.StatusServiceUnavailable, "too many requests at once")
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// authorised compares the token's hash in constant time.
func (s *Server) authorised(r *http.Request) bool {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if s.token == nil || !strings.EqualFold(scheme, "Bearer") {
		return false
	}
	sum := sha256.Sum256([]byte(strings.TrimSpace(token)))
	return subtle.ConstantTimeCompare(sum[:], s.token) == 1
}

// alarm logs that a token was refused; a flood of them makes one line a second.
func (s *Server) alarm(r *http.Request) {
	s.mu.Lock()
	s.refused++
	n := s.refused
	quiet := time.Since(s.lastAlarm) < alarmGap
	if !quiet {
		s.lastAlarm, s.refused = time.Now(), 0
	}
	s.mu.Unlock()
	if !quiet {
		s.cfg.Log.Warn("admin token refused", "remote", r.RemoteAddr, "refusals", n)
	}
}

// reply answers with v, or says why not.
func (s *Server) reply(w http.ResponseWriter, r *http.Request, v any, err error) {
	if err != nil {
		s.failed(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, v)
}

// status answers GET /api/v1/status.
func (s *Server) status(w http.ResponseWriter, r *http.Request) {
	v, err := s.cfg.Admin.Status(r.Context())
	s.reply(w, r, v, err)
}

// checkpoint answers POST /api/v1/checkpoints.
func (s *Server) checkpoint(w http.ResponseWriter, r *http.Request) {
	v, err := s.cfg.Admin.Checkpoint(r.Context())
	if err != nil {
		s.failed(w, r, err)
		return
	}
	s.cfg.Log.Info("shards saved by the API", "remote", r.RemoteAddr)
	writeJSON(w, http.StatusOK, v)
}

// accounts answers GET /api/v1/accounts.
func (s *Server) accounts(w http.ResponseWriter, r *http.Request) {
	list, err := s.cfg.Admin.Accounts(r.Context())
	if err != nil {
		s.failed(w, r, err)
		return
	}
	if list == nil {
		list = []string{}
	}
	writeJSON(w, http.StatusOK, map[string][]string{"accounts": list})
}

// putDomain answers PUT /api/v1/domains/{name}.
func (s *Server) putDomain(w http.ResponseWriter, r *http.Request) {
	var body struct {
		HomeRegion string `json:"home_region"`
	}
	if !readJSON(w, r, &body) {
		return
	}
	name := r.PathValue("name")
	if err := s.cfg.Admin.AddDomain(r.Context(), name, body.HomeRegion); err != nil {
		s.failed(w, r, err)
		return
	}
	s.cfg.Log.Info("domain added by the API", "domain", name, "remote", r.RemoteAddr)
	writeJSON(w, http.StatusOK, map[string]string{"name": name})
}

// putAccount answers PUT /api/v1/accounts/{address}: 201 for a new one, 200 for one that was there.
func (s *Server) putAccount(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Password   string `json:"password"`
		Hash       string `json:"password_hash"`
		HomeRegion string `json:"home_region"`
		Reset      bool   `json:"reset"`
	}
	if !readJSON(w, r, &body) {
		return
	}
	switch {
	case body.Password != "" && body.Hash != "":
		fail(w, http.StatusBadRequest, "password, password_hash: expected one of them")
		return
	case body.Hash == "" && (body.Password == "" || len(body.Password) > maxPassword):
		fail(w, http.StatusBadRequest, fmt.Sprintf("password: expected 1 to %d bytes", maxPassword))
		return
	}
	address := r.PathValue("address")
	created, err := s.cfg.Admin.AddAccount(r.Context(), client.NewAccount{
		Address: address, Home: body.HomeRegion, Password: body.Password, Hash: body.Hash, Reset: body.Reset,
	})
	if err != nil {
		s.failed(w, r, err)
		return
	}
	code := http.StatusOK
	if created {
		code = http.StatusCreated
	}
	s.cfg.Log.Info("account put by the API", "account", address, "created", created, "reset", body.Reset, "remote", r.RemoteAddr)
	writeJSON(w, code, struct {
		Address string `json:"address"`
		Created bool   `json:"created"`
	}{address, created})
}

// failed answers with the error that the cluster gave: the caller's mistakes with their text, passing troubles as such,
// and anything else with its text in the log only.
func (s *Server) failed(w http.ResponseWriter, r *http.Request, err error) {
	for _, mistake := range []error{wire.ErrInvalid, wire.ErrLimit, wire.ErrNotFound, wire.ErrExists,
		client.ErrInvalidName, client.ErrInvalidHash, client.ErrNotLocal, client.ErrLimit} {
		if errors.Is(err, mistake) {
			fail(w, http.StatusBadRequest, err.Error())
			return
		}
	}
	for _, passing := range []error{client.ErrUnavailable, wire.ErrUnavailable, wire.ErrNotLeader, wire.ErrDeadline, wire.ErrUnsupported,
		wire.ErrCanceled, context.DeadlineExceeded, context.Canceled} {
		if errors.Is(err, passing) {
			w.Header().Set("Retry-After", "1")
			fail(w, http.StatusServiceUnavailable, err.Error())
			return
		}
	}
	s.cfg.Log.Error("request failed", "method", r.Method, "path", r.URL.Path, "remote", r.RemoteAddr, "error", err)
	fail(w, http.StatusInternalServerError, "internal error; the node's log says more")
}

// readJSON decodes the body, one object with known keys only. It is false when it answered with an error itself.
func readJSON(w http.ResponseWriter, r *http.Request, v any) bool {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	err := d.Decode(v)
	if err == nil {
		if _, err = d.Token(); errors.Is(err, io.EOF) {
			return true
		}
		err = errors.Join(errors.New("more than one value"), err)
	}
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		fail(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("body is larger than %d bytes", tooLarge.Limit))
		return false
	}
	fail(w, http.StatusBadRequest, fmt.Sprintf("body: expected a JSON object: %v", err))
	return false
}

// nothingHere answers what no handler of a mux is for: 405 where one takes other methods (RFC 9110 section 15.5.6), else 404.
func nothingHere(mux *http.ServeMux) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		code, others := http.StatusNotFound, []string(nil)
		for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodPatch, http.MethodPost, http.MethodDelete} {
			if _, pattern := mux.Handler(&http.Request{Method: method, URL: r.URL, Host: r.Host}); strings.HasPrefix(pattern, method+" ") {
				others = append(others, method)
			}
		}
		if others != nil {
			code = http.StatusMethodNotAllowed
			w.Header().Set("Allow", strings.Join(others, ", "))
		}
		missing(w, r, code)
	}
}

func missing(w http.ResponseWriter, r *http.Request, code int) {
	fail(w, code, fmt.Sprintf("there is no %s %s", r.Method, r.URL.Path))
}

// fail answers with an error.
func fail(w http.ResponseWriter, code int, text string) {
	writeJSON(w, code, map[string]string{"error": text})
}

// writeJSON answers with a value.
func writeJSON(w http.ResponseWriter, code int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		code, b = http.StatusInternalServerError, []byte(`{"error": "answer has no JSON form"}`)
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_, _ = w.Write(append(b, '\n')) // a client that is gone needs no answer
}
