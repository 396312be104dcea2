package smtp

import (
	"errors"
	"io"
	"net"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"hongyan/cluster/client"
)

// expect holds lines of a scrape.
func expect(t *testing.T, c prometheus.Collector, lines ...string) {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(c)
	page := httptest.NewRecorder()
	promhttp.HandlerFor(r, promhttp.HandlerOpts{ErrorHandling: promhttp.PanicOnError}).ServeHTTP(page, httptest.NewRequest("GET", "/metrics", nil))
	for _, line := range lines {
		if !strings.Contains(page.Body.String(), "\n"+line+"\n") {
			t.Errorf("no line %q in\n%s", line, page.Body)
		}
	}
}

// What is counted is what clients were told: by SMTP one reply for all, by LMTP one each.
func TestMetrics(t *testing.T) {
	f := newFake()
	f.deliver = func(a client.Account) error {
		if a.ID == 2 {
			return client.ErrUnavailable
		}
		return nil
	}
	srv, addr := start(t, f, Config{}, false)
	p := connect(t, addr)
	p.do("EHLO c", "250")
	p.do("MAIL FROM:<a@b..c>", "501")
	p.do("MAIL FROM:<>", "250")
	p.do("RCPT TO:<u1@example.test>", "250")
	p.do("RCPT TO:<nobody@example.test>", "550")
	p.do("DATA", "354")
	p.do("12345678\r\n.", "250")
	p.do("MAIL FROM:<>", "250")
	p.do("RCPT TO:<u1@example.test>", "250")
	p.do("RCPT TO:<u2@example.test>", "250")
	p.do("DATA", "354")
	p.do("x\r\n.", "451")
	expect(t, srv.Metrics(),
		"hongyan_smtp_transactions_total 2", "hongyan_smtp_messages_total 1", "hongyan_smtp_recipients_total 1",
		"hongyan_smtp_received_bytes_total 10", "hongyan_smtp_delivery_seconds_count 2", "hongyan_smtp_receive_seconds_count 2",
		`hongyan_smtp_refusals_total{class="5xx",stage="mail"} 1`, `hongyan_smtp_refusals_total{class="4xx",stage="mail"} 0`,
		`hongyan_smtp_refusals_total{class="5xx",stage="rcpt"} 1`, `hongyan_smtp_refusals_total{class="4xx",stage="data"} 2`,
		"hongyan_connections 1", "hongyan_connections_accepted_total 1", "hongyan_connections_refused_total 0")

	srv, addr = start(t, f, Config{Limits: Limits{MaxConns: 1}}, true)
	p = connect(t, addr)
	p.do("LHLO c", "250")
	p.do("MAIL FROM:<>", "250")
	p.do("RCPT TO:<u1@example.test>", "250")
	p.do("RCPT TO:<u2@example.test>", "250")
	p.do("DATA", "354")
	p.do("12345678\r\n.", "250")
	p.expect("451")
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	if said, err := io.ReadAll(c); err != nil || !strings.HasPrefix(string(said), "421") {
		t.Errorf("a connection too many heard %q, %v", said, err)
	}
	_ = c.Close() // refused
	expect(t, srv.Metrics(), "hongyan_smtp_messages_total 1", "hongyan_smtp_recipients_total 1", "hongyan_smtp_received_bytes_total 10",
		`hongyan_smtp_refusals_total{class="4xx",stage="data"} 1`, "hongyan_connections_refused_total 1")

	if other := errors.New("not a reply"); !errors.Is(srv.metrics.refused(stageData, other), other) {
		t.Error("an error was changed by counting it")
	}
}
