// Package certfile reads certificates from files, and reads them again when the files have changed, so that one that was renewed is in use without a
// restart.
//
// Invariants: what was read last and could be used stays in use until something that can be used takes its place, so files may be replaced one after the
// other. They are looked at only when somebody asks, no more often than every so often, and nobody waits for another's look.
package certfile

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Every is the time between two looks at the files.
const Every = 10 * time.Second

// Files is what was read from files. It is safe for concurrent use.
type Files[T any] struct {
	read  func() (T, error)
	paths []string
	every time.Duration
	log   *slog.Logger
	now   atomic.Pointer[T]

	looking sync.Mutex    // held by who looks at the files; guards what follows
	looked  time.Time     // when that was
	seen    []os.FileInfo // of the files that now was read from
	told    string        // what was wrong at the last look
}

// Follow reads the files at paths.
func Follow[T any](read func() (T, error), every time.Duration, log *slog.Logger, paths ...string) (*Files[T], error) {
	f := &Files[T]{read: read, paths: paths, every: every, log: log, looked: time.Now()}
	seen, err := stat(paths) // before they are read: who changes them meanwhile is noticed at the next look
	if err != nil {
		return nil, err
	}
	v, err := read()
	if err != nil {
		return nil, err
	}
	f.seen = seen
	f.now.Store(&v)
	return f, nil
}

// Now is what the files hold, or held when they could be read.
func (f *Files[T]) Now() T {
	if f.looking.TryLock() {
		f.look()
		f.looking.Unlock()
	}
	return *f.now.Load()
}

// look is called under looking.
func (f *Files[T]) look() {
	if time.Since(f.looked) < f.every {
		return
	}
	f.looked = time.Now()
	infos, err := stat(f.paths)
	if err == nil && slices.EqualFunc(infos, f.seen, same) {
		f.told = ""
		return
	}
	var v T
	if err == nil {
		v, err = f.read()
	}
	if err != nil { // read again at each look: the other one of a pair may come, or what failed was not the file
		if f.told != err.Error() {
			f.log.Warn("a certificate that has changed is not taken, the one before stays in use: correct the files, they are read again within seconds", "files", f.paths, "err", err)
		}
		f.told = err.Error()
		return
	}
	f.seen, f.told = infos, ""
	f.now.Store(&v)
	f.log.Info("a certificate has changed and is in use", "files", f.paths)
}

func stat(paths []string) ([]os.FileInfo, error) {
	infos := make([]os.FileInfo, len(paths))
	for i, path := range paths {
		var err error
		if infos[i], err = os.Stat(path); err != nil {
			return nil, fmt.Errorf("look at certificate: %w", err)
		}
	}
	return infos, nil
}

func same(a, b os.FileInfo) bool {
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}

// Server follows the certificate that a server shows, and its key.
func Server(certPath, keyPath string, every time.Duration, log *slog.Logger) (*Files[*tls.Certificate], error) {
	return Follow(func() (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(certPath, keyPath)
		if err != nil {
			return nil, fmt.Errorf("load certificate %s: %w", certPath, err)
		}
		return &pair, nil
	}, every, log, certPath, keyPath)
}

// Expiry measures how long a certificate is valid yet.
func Expiry(certificate string, left func() time.Duration) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "hongyan_certificate_expiry_seconds", Help: "Until the certificate in use ends; negative when it has ended.",
		ConstLabels: prometheus.Labels{"certificate": certificate}}, func() float64 { return left().Seconds() })
}
