package pop3

import (
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

func scrape(s *Server) string {
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(s.Metrics())
	page := httptest.NewRecorder()
	promhttp.HandlerFor(r, promhttp.HandlerOpts{ErrorHandling: promhttp.PanicOnError}).ServeHTTP(page, httptest.NewRequest("GET", "/metrics", nil))
	return page.Body.String()
}

func TestMetrics(t *testing.T) {
	f := newFake(first, second)
	srv, addr := serve(t, f, f, true, io.Discard)
	p := login(t, addr)
	p.do("FROB", "-ERR")
	p.do("RETR 1", "+OK")
	p.multi()
	p.do("DELE 1", "+OK")
	text := scrape(srv)
	expect := func(lines ...string) {
		t.Helper()
		for _, line := range lines {
			if !strings.Contains(text, "\n"+line+"\n") {
				t.Errorf("no line %q in\n%s", line, text)
			}
		}
	}
	expect("hongyan_pop3_sessions 1", "hongyan_pop3_commands_total 5", "hongyan_pop3_bad_commands_total 1", "hongyan_pop3_retrieved_total 1", fmt.Sprintf("hongyan_pop3_retrieved_bytes_total %d", len(first)), "hongyan_pop3_in_use_total 0",
		"hongyan_pop3_removed_total 0", "hongyan_connections 1")
	p.do("QUIT", "+OK")
	p.ended()

	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, "USER u@example.test\r\n"); err != nil { // where TLS is spoken
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, c); err != nil {
		t.Log(err) // a reset is as good as an end
	}
	_ = c.Close() // of no use any more
	text = scrape(srv)
	expect("hongyan_pop3_sessions 0", "hongyan_pop3_removed_total 1", "hongyan_pop3_tls_failures_total 1", "hongyan_pop3_panics_total 0")
}
