// Package supervise is what a node's process tells those who watch it: systemd while it runs (Heart), and its successor in the same
// folder how it ended (Life).
//
// Invariants: systemd hears WATCHDOG=1 only after the node has answered a question that takes its locks, so that one that is stuck is ended from
// outside. A process that ends in good order, or for a reason that it knows, has written the reason before; of one that was killed or lost its
// machine there is a record without an end, and of one that crashed what the Go runtime wrote.
//
// A crash leaves DATA/process.json without an end, and perhaps DATA/crash.txt, which the next process reads and sets aside as crash.txt.1.
package supervise

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// statusEvery is how often systemd hears how the node is when no watchdog asks for more.
const statusEvery = 5 * time.Second

// Heart tells systemd how the node is. Without systemd, which is without NOTIFY_SOCKET, it tells nobody.
type Heart struct {
	// Ready gives the reasons why the node does not serve, none if it does. It takes the locks that the node's work takes.
	Ready func() []string
	Log   *slog.Logger
}

// Beat says that the node serves, then how it is again and again, until ctx ends; then that it stops.
func (h *Heart) Beat(ctx context.Context) {
	every := statusEvery
	watchdog, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		h.Log.Warn("systemd's watchdog is not fed", "err", err)
	}
	if watchdog > 0 {
		every = min(every, watchdog/2)
	}
	if !h.tell(daemon.SdNotifyReady) {
		return
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	answers := make(chan []string, 1)
	asked, silent := false, false
	for {
		if !asked {
			asked = true
			go func() { answers <- h.Ready() }()
		}
		select {
		case why := <-answers:
			if asked = false; silent {
				silent = false
				h.Log.Info("node answers itself again")
			}
			state := "STATUS=" + status(why)
			if watchdog > 0 {
				state = daemon.SdNotifyWatchdog + "\n" + state
			}
			h.tell(state)
		case <-tick.C:
			if !silent {
				silent = true
				h.Log.Error("node does not answer itself; systemd's watchdog is not fed", "waited", every.String())
			}
			continue
		case <-ctx.Done():
			h.tell(daemon.SdNotifyStopping)
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// tell says whether anybody is there to hear it.
func (h *Heart) tell(state string) bool {
	sent, err := daemon.SdNotify(false, state)
	if err != nil {
		h.Log.Warn("systemd is not told", "state", state, "err", err)
	}
	return sent || err != nil
}

// status is a line for `systemctl status`.
func status(why []string) string {
	switch len(why) {
	case 0:
		return "serves"
	case 1:
		return "does not serve: " + OneLine(why[0])
	}
	return fmt.Sprintf("does not serve: %s (and %d more)", OneLine(why[0]), len(why)-1)
}

// OneLine makes one line of a text, such as that of errors that were joined.
func OneLine(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
}
