// Package web is the HTTP listener of a node: is it alive, is it of use, what does it measure, and the operator's API.
//
//	GET /healthz                    200 while the process works
//	GET /readyz                     200, or 503 and one reason a line (JSON for those who accept only that)
//	GET /metrics                    Prometheus
//	GET /api/v1/status              the cluster as this node sees it
//	GET /api/v1/accounts            all addresses
//	GET  /api/v1/nodes              the members; PUT, PATCH and DELETE /api/v1/nodes/{id}, POST …/replace change one
//	GET  /api/v1/moves              accounts that move; POST has some move, POST …/cancel has them stay
//	POST /api/v1/shards             adds a shard
//	GET  /api/v1/placement          what moves between them; PUT pauses and resumes
//	GET  /api/v1/upgrade            what each node runs, and the cluster's feature level; PUT holds it
//	GET  /api/v1/recover            what a recovery of shards without majority would do; POST begins it
//	POST /api/v1/checkpoints        save every shard that changed into volumes, now
//	GET /api/v1/scrub               health of the copies of mail, node by node
//	POST /api/v1/scrub              {"volume": 31}: verify its copies now; 0 for all
//	GET /api/v1/text-index          the full-text index of each node: what is in it, and what waits
//	POST /api/v1/text-index/rebuild {"node": "…"}: throw it away and begin anew; "" for all nodes
//	GET /api/v1/debug/pprof/{name}  profiles of the process: heap, allocs, goroutine, profile?seconds=10, trace?seconds=10
//	GET /api/v1/keys?node=…         master keys of each node, by name, and what they wrap
//	POST /api/v1/keys/rotate        {"node": "…", "new_key": true}: wrap everything by a new master key
//	GET /api/v1/domains             the domains, their policies, what is stored under which
//	PUT /api/v1/domains/{name}      {"home_region": "…"}
//	PATCH /api/v1/domains/{name}    {"copies": 3, "survive": "region", "regions": ["…"], "home_region": "…"}: what is given of its policy
//	GET /api/v1/quotas/{name}       the quota of an account or of a domain, and what the account holds
//	PATCH /api/v1/quotas/{name}     {"bytes": 1, "messages": 1, "follow": true, "total_bytes": 1, "total_messages": 1, "permanent": true}: what is given
//	PUT /api/v1/accounts/{address}  {"password": "…", "home_region": "…", "reset": false}; instead of the password
//	                                "password_hash", Argon2id's PHC string
//	POST /api/v1/accounts/{address}/check  {"repair": true, "after": {"folder": 1, "uid": 5000}}: entries that contradict what is stored
//
// Everything below /api/ needs the bearer token whose SHA-256 the node was configured with, and is closed without one;
// the rest says nothing that is secret but names shards and disks, so the listener belongs on an inner network. Answers
// of the API are JSON, errors {"error": "…"}. What exists stays as it is but for what a request names to be changed, so any request may be sent again.
//
// The package keeps no state but its connections; a crash leaves nothing behind. Passwords and tokens are never logged.
package web

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"hongyan/cluster/client"
	"hongyan/cluster/custody"
	"hongyan/cluster/mover"
	"hongyan/cluster/reconcile"
	"hongyan/cluster/recovery"
	"hongyan/cluster/relocate"
	"hongyan/cluster/upgrade"
	"hongyan/frontends/listen"
)

// What a client can take of a server.
const (
	maxConns     = 1024
	maxPerAddr   = 128
	maxHeader    = 16 << 10
	maxBody      = 64 << 10
	maxScrapes   = 4  // of /metrics at once
	maxRequests  = 16 // to the API at once; further ones wait
	headerWait   = 10 * time.Second
	requestWait  = 30 * time.Second // for a request to arrive, and for the cluster to answer it
	responseWait = 2 * requestWait
	idleWait     = 2 * time.Minute
)

// Admin is what the API and the probes ask of the node. Errors are told apart by the sentinels of cluster/client
// and cluster/wire.
type Admin interface {
	// Ready lists the reasons why the node is not of full use; none means that it is. It does not block.
	Ready() []string
	// Status is a value that encoding/json takes.
	Status(ctx context.Context) (any, error)
	AddDomain(ctx context.Context, name, home string) error
	Domains(ctx context.Context) (*client.Domains, error)
	SetPolicy(ctx context.Context, domain string, c client.PolicyChange) error
	// Quota and SetQuota are of an account or of a domain, by name.
	Quota(ctx context.Context, name string) (*client.QuotaReport, error)
	SetQuota(ctx context.Context, name string, c client.QuotaChange) error
	AddAccount(ctx context.Context, a client.NewAccount) (created bool, err error)
	Accounts(ctx context.Context) ([]string, error)
	// Checkpoint has every shard that changed saved into volumes, and gives a value that encoding/json takes.
	Checkpoint(ctx context.Context) (any, error)
	// Keys reports the master keys of one node, or of all that keep mail, after the rotation that req asks for.
	Keys(ctx context.Context, node string, req custody.Request) ([]custody.Report, error)
	// ScrubReports and Scrub give values that encoding/json takes, with a line for each node.
	ScrubReports(ctx context.Context) any
	Scrub(ctx context.Context, volume uint64) any
	// TextIndexes and RebuildTextIndex give values that encoding/json takes, with a line for each node; the latter is for one node, or for all if it is "".
	TextIndexes(ctx context.Context) any
	RebuildTextIndex(ctx context.Context, node string) (any, error)

	// Nodes and the five that follow are about the members of the cluster, the last two about what moves between them.
	Nodes(ctx context.Context) ([]mover.NodeStatus, error)
	AddNode(ctx context.Context, n mover.NewNode) error
	ChangeNode(ctx context.Context, id string, c mover.NodeChange) error
	RemoveNode(ctx context.Context, id string) error
	ReplaceNode(ctx context.Context, id string) (changed bool, err error)
	Placement(ctx context.Context) (*mover.Placement, error)
	PausePlacement(ctx context.Context, paused bool) error

	// Moves and the two that follow are about accounts that go to another shard; AddShard gives the number of a new one.
	Moves(ctx context.Context) (*relocate.Status, error)
	MoveAccounts(ctx context.Context, in relocate.Order) (planned uint64, err error)
	KeepAccounts(ctx context.Context, addresses []string) (canceled uint64, err error)
	AddShard(ctx context.Context, home string) (uint32, error)
	// Upgrade says what each node runs; HoldUpgrade the same, once the cluster's feature level is held or no longer held.
	Upgrade(ctx context.Context) *upgrade.Status
	HoldUpgrade(ctx context.Context, hold bool) (*upgrade.Status, error)
	// RecoveryPlan, Recover and Recovery are about shards that have lost their majority for ever.
	RecoveryPlan(ctx context.Context) (*recovery.Plan, error)
	Recover(ctx context.Context, req recovery.Request) (*recovery.Job, error)
	Recovery() *recovery.Job
	// CheckAccount holds an account against the volumes, a part at a time.
	CheckAccount(ctx context.Context, address string, repair bool, after reconcile.Cursor) (*reconcile.Checked, error)
}

// Config is what a Server needs.
type Config struct {
	Admin       Admin
	Metrics     prometheus.Gatherer
	TokenSHA256 string         // hex; empty: the API is closed
	Allow       []netip.Prefix // networks that may connect; empty: all
	Log         *slog.Logger
}

// Server serves HTTP on any number of listeners.
type Server struct {
	cfg   Config
	token []byte // SHA-256 of the admin token, or nil
	http  *http.Server
	turns chan struct{} // one for each request to the API under way

	mu        sync.Mutex // guards what follows
	stopped   bool
	lastAlarm time.Time // of a refused token
	refused   int       // tokens since then
}

// New makes a Server. It fails when the token's hash is none.
func New(cfg Config) (*Server, error) {
	s := &Server{cfg: cfg, turns: make(chan struct{}, maxRequests)}
	if cfg.TokenSHA256 != "" {
		token, err := parseHash(cfg.TokenSHA256)
		if err != nil {
			return nil, fmt.Errorf("hash of the admin token: %w", err)
		}
		s.token = token
	}
	errorLog := slog.NewLogLogger(cfg.Log.With("protocol", "http").Handler(), slog.LevelWarn)
	s.http = &http.Server{
		Handler:           s.handler(errorLog),
		ReadHeaderTimeout: headerWait,
		ReadTimeout:       requestWait,
		WriteTimeout:      responseWait,
		IdleTimeout:       idleWait,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          errorLog,
	}
	return s, nil
}

// Serve answers on l until Shutdown, when it returns nil.
func (s *Server) Serve(l net.Listener) error {
	guarded := listen.Wrap(l, listen.Config{
		Name: "http", MaxConns: maxConns, MaxPerAddr: maxPerAddr, Allow: s.cfg.Allow, Idle: idleWait, Log: s.cfg.Log,
		Busy: []byte("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
	})
	if err := s.http.Serve(guarded); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("serve http on %v: %w", l.Addr(), err)
	}
	return nil
}

// Shutdown stops accepting and waits for requests under way. When ctx ends first it cuts them off and returns ctx's error.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.stopped = true
	s.mu.Unlock()
	err := s.http.Shutdown(ctx)
	if err == nil {
		return nil
	}
	return errors.Join(fmt.Errorf("drain http connections: %w", err), s.http.Close())
}

// handler routes requests.
func (s *Server) handler(errorLog *log.Logger) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", s.healthz)
	mux.HandleFunc("GET /readyz", s.readyz)
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.cfg.Metrics, promhttp.HandlerOpts{
		ErrorLog: errorLog, ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: maxScrapes, Timeout: headerWait,
	}))
	api := http.NewServeMux()
	api.HandleFunc("GET /api/v1/status", s.status)
	api.HandleFunc("GET /api/v1/accounts", s.accounts)
	api.HandleFunc("GET /api/v1/keys", s.keys)
	api.HandleFunc("POST /api/v1/keys/rotate", s.rotateKeys)
	api.HandleFunc("GET /api/v1/scrub", s.scrubReports)
	api.HandleFunc("POST /api/v1/scrub", s.startScrub)
	api.HandleFunc("GET /api/v1/text-index", s.textIndexes)
	api.HandleFunc("POST /api/v1/text-index/rebuild", s.rebuildTextIndex)
	api.HandleFunc("POST /api/v1/checkpoints", s.checkpoint)
	api.HandleFunc("GET /api/v1/recover", s.recovery)
	api.HandleFunc("POST /api/v1/recover", s.recover)
	api.HandleFunc("GET /api/v1/nodes", s.nodes)
	api.HandleFunc("PUT /api/v1/nodes/{id}", s.putNode)
	api.HandleFunc("PATCH /api/v1/nodes/{id}", s.patchNode)
	api.HandleFunc("DELETE /api/v1/nodes/{id}", s.deleteNode)
	api.HandleFunc("POST /api/v1/nodes/{id}/replace", s.replaceNode)
	api.HandleFunc("GET /api/v1/placement", s.placement)
	api.HandleFunc("PUT /api/v1/placement", s.putPlacement)
	api.HandleFunc("GET /api/v1/moves", s.moves)
	api.HandleFunc("POST /api/v1/moves", s.postMoves)
	api.HandleFunc("POST /api/v1/moves/cancel", s.cancelMoves)
	api.HandleFunc("POST /api/v1/shards", s.postShard)
	api.HandleFunc("GET /api/v1/domains", s.domains)
	api.HandleFunc("GET /api/v1/upgrade", s.upgrade)
	api.HandleFunc("PUT /api/v1/upgrade", s.putUpgrade)
	api.HandleFunc("PUT /api/v1/domains/{name}", s.putDomain)
	api.HandleFunc("PATCH /api/v1/domains/{name}", s.patchDomain)
	api.HandleFunc("GET /api/v1/quotas/{name}", s.quota)
	api.HandleFunc("PATCH /api/v1/quotas/{name}", s.patchQuota)
	api.HandleFunc("PUT /api/v1/accounts/{address}", s.putAccount)
	api.HandleFunc("POST /api/v1/accounts/{address}/check", s.checkAccount)
	api.HandleFunc("GET /api/v1/debug/pprof/{$}", s.profiles)
	api.HandleFunc("GET /api/v1/debug/pprof/{name}", s.profile)
	api.HandleFunc("/", nothingHere(api))
	mux.Handle("/api/", s.guard(api))
	mux.HandleFunc("/", nothingHere(mux))
	return mux
}
