package measure

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

const (
	maxMetrics  = 16 << 20
	metricsWait = 5 * time.Second
)

// Metrics are those that a node of ours serves, by name; the values of all label sets of a counter or gauge are added up.
type Metrics map[string]float64

// Scrape reads http://…/metrics of some nodes and adds them up. A node that does not answer is an error.
func Scrape(ctx context.Context, bases ...string) (Metrics, error) {
	sum := make(Metrics)
	for _, base := range bases {
		if err := sum.add(ctx, base+"/metrics"); err != nil {
			return nil, fmt.Errorf("read metrics of %s: %w", base, err)
		}
	}
	return sum, nil
}

func (m Metrics) add(ctx context.Context, url string) (err error) {
	ctx, cancel := context.WithTimeout(ctx, metricsWait)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, res.Body.Close()) }()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("status %s", res.Status)
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(io.LimitReader(res.Body, maxMetrics))
	if err != nil {
		return err
	}
	for name, family := range families {
		for _, one := range family.GetMetric() {
			m.count(name, one)
		}
	}
	return nil
}

func (m Metrics) count(name string, one *dto.Metric) {
	switch {
	case one.Counter != nil:
		m[name] += one.Counter.GetValue()
	case one.Gauge != nil:
		m[name] += one.Gauge.GetValue()
	case one.Untyped != nil:
		m[name] += one.Untyped.GetValue()
	case one.Histogram != nil:
		m[name+"_count"] += float64(one.Histogram.GetSampleCount())
		m[name+"_sum"] += one.Histogram.GetSampleSum()
	case one.Summary != nil:
		m[name+"_count"] += float64(one.Summary.GetSampleCount())
		m[name+"_sum"] += one.Summary.GetSampleSum()
	}
}
