package smtp

import (
	"errors"
	"slices"

	gosmtp "github.com/emersion/go-smtp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"hongyan/frontends/listen"
)

// stage is the step of a transaction that was refused.
type stage string

const (
	stageMail stage = "mail"
	stageRcpt stage = "rcpt"
	stageData stage = "data"
)

// metrics count what a Server did.
type metrics struct {
	prometheus.Collector // of all

	transactions, messages, recipients, bytes prometheus.Counter
	refusals                                  *prometheus.CounterVec // stage, class
	receive, delivery                         prometheus.Histogram
}

func newMetrics(s *Server) *metrics {
	r := prometheus.NewRegistry()
	f := promauto.With(r)
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Namespace: "hongyan", Subsystem: "smtp", Name: name, Help: help})
	}
	seconds := func(name, help string) prometheus.Histogram {
		return f.NewHistogram(prometheus.HistogramOpts{Namespace: "hongyan", Subsystem: "smtp", Name: name, Help: help,
			Buckets: []float64{.002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 15, 60, 300}})
	}
	m := &metrics{
		Collector:    r,
		transactions: counter("transactions_total", "Transactions begun by MAIL."),
		messages:     counter("messages_total", "Messages acknowledged for at least one recipient."),
		recipients:   counter("recipients_total", "Recipients for whom a message was acknowledged."),
		bytes:        counter("received_bytes_total", "Bytes of messages acknowledged."),
		receive:      seconds("receive_seconds", "From DATA to the message's last byte: the sender's part of the delay."),
		delivery:     seconds("delivery_seconds", "From the message's last byte to the reply: our part of the delay."),
		refusals: f.NewCounterVec(prometheus.CounterOpts{Namespace: "hongyan", Subsystem: "smtp", Name: "refusals_total",
			Help: "Replies other than 2xx by step (data: one for each recipient)."}, []string{"stage", "class"}),
	}
	for _, at := range []stage{stageMail, stageRcpt, stageData} {
		for _, class := range []string{"4xx", "5xx"} {
			m.refusals.WithLabelValues(string(at), class)
		}
	}
	f.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "hongyan", Subsystem: "smtp", Name: "transactions_open", Help: "Transactions under way."},
		func() float64 { return float64(len(s.slots)) })
	listen.Measure(r, s.listeners)
	return m
}

// refused counts err if it is a refusal, and returns it.
func (m *metrics) refused(at stage, err error) error {
	var r *gosmtp.SMTPError
	if !errors.As(err, &r) {
		return err
	}
	class := "5xx"
	if r.Code/100 == 4 {
		class = "4xx"
	}
	m.refusals.WithLabelValues(string(at), class).Inc()
	return err
}

// answered counts the replies to a message of size bytes.
func (m *metrics) answered(results []*gosmtp.SMTPError, size int64) {
	good := 0
	for _, one := range results {
		if one.Code/100 == 2 {
			good++
		} else {
			_ = m.refused(stageData, one) // counted; the reply goes its own way
		}
	}
	m.recipients.Add(float64(good))
	if good > 0 {
		m.messages.Inc()
		m.bytes.Add(float64(size))
	}
}

// Metrics are the server's; a registry that takes several servers' needs a label for each.
func (s *Server) Metrics() prometheus.Collector { return s.metrics }

// listeners are those that were given to Serve.
func (s *Server) listeners() []*listen.Listener {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.serving)
}
