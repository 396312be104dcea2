package auth

import (
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Attempts are counted by protocol and result; who tried, and from where, is nowhere in the metrics.
func TestMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := New(&fake{}, quiet())
		for range userFailures + 2 {
			if _, err := a.Login(t.Context(), "imap", abroad, "u@example.test", "wrong"); err == nil {
				t.Fatal("let in")
			}
		}
		if _, err := a.Login(t.Context(), "pop3", home, "v@example.test", "secret"); err != nil {
			t.Fatal(err)
		}
		r := prometheus.NewPedanticRegistry()
		r.MustRegister(a.Metrics())
		page := httptest.NewRecorder()
		promhttp.HandlerFor(r, promhttp.HandlerOpts{ErrorHandling: promhttp.PanicOnError}).ServeHTTP(page, httptest.NewRequest("GET", "/metrics", nil))
		text := page.Body.String()
		for _, line := range []string{
			`hongyan_login_attempts_total{protocol="imap",result="bad credentials"} 10`,
			`hongyan_login_attempts_total{protocol="imap",result="throttled"} 2`,
			`hongyan_login_attempts_total{protocol="pop3",result="ok"} 1`,
			"hongyan_login_seconds_count 1",
		} {
			if !strings.Contains(text, line+"\n") {
				t.Errorf("no line %q in\n%s", line, text)
			}
		}
		for _, secret := range []string{"example.test", home.String(), abroad.String()} {
			if strings.Contains(text, secret) {
				t.Errorf("%s is in the metrics", secret)
			}
		}
	})
}
