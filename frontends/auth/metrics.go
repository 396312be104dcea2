package auth

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics count logins by what came of them, never by who tried.
type metrics struct {
	prometheus.Collector // of both

	attempts *prometheus.CounterVec // protocol, result
	seconds  prometheus.Histogram
}

func newMetrics() *metrics {
	r := prometheus.NewRegistry()
	f := promauto.With(r)
	return &metrics{
		Collector: r,
		attempts: f.NewCounterVec(prometheus.CounterOpts{Name: "hongyan_login_attempts_total",
			Help: "Login attempts by result: ok, bad credentials, throttled (not looked at after too many failures), unavailable."},
			[]string{"protocol", "result"}),
		seconds: f.NewHistogram(prometheus.HistogramOpts{Name: "hongyan_login_seconds", Help: "Time that logins took which succeeded.",
			Buckets: []float64{.001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5}}),
	}
}

func (m *metrics) attempt(protocol, result string, took time.Duration) {
	m.attempts.WithLabelValues(protocol, result).Inc()
	if result == resultOK {
		m.seconds.Observe(took.Seconds())
	}
}

// Metrics are those of all logins.
func (a *Authenticator) Metrics() prometheus.Collector { return a.metrics }
