package replica

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hongyan/cluster/clock"
	"hongyan/cluster/transport"
	"hongyan/engine/volume"
)

// Config is what a Manager needs. Zero values of the limits mean their defaults.
type Config struct {
	ID        string
	Region    string
	Net       *transport.Net
	Volumes   *volume.Set // nil on a node without the storage role: it only puts and reads through peers
	Cold      ColdVolumes // nil: there are none here
	Directory Directory
	Peers     func() []Peer // the cluster's storage nodes now; this node may be among them
	Paused    func() bool   // the operator has moves wait; may be nil
	// Recovering says that shards were recovered which may have entries of volumes that nobody has a file of. Nil: never.
	Recovering func() bool
	FS         vfs.FS // for the spools of blobs that peers send
	SpoolDir   string
	SpoolKeep  uint64 // bytes of disk that blobs of peers leave free there
	Log        *slog.Logger
	// Dictionary gives the one that frames name by this id, for blobs that peers put; nil if it is not known. May be nil.
	Dictionary func(id uint32) *volume.Dictionary

	MaxVolume  int64  // a volume this long is sealed once it has a successor; below the set's MaxSize, where it ends anyway
	MaxBlob    uint64 // raw bytes of a blob that a peer may put
	Clock      *clock.Clock
	MaxAge     time.Duration // an open volume with records is sealed after two thirds of it to all of it, once it has a successor; 0 is never
	EarlyFrom  time.Duration // from this round trip to a volume's other copy on messages may be entered early; negative is always
	AckTimeout time.Duration // a copy that owes bytes this long without progress is fenced
	PeerDown   time.Duration // a primary gone this long has its volumes sealed by the other copy
	// Damaged is told of each record of this node's copies that a read found damaged; it mends them. May be nil.
	Damaged func(id volume.ID, record uint64)

	// Checked says what checking knows of this node's copy in a generation, and Verify has it verified soon. Nil: nobody checks here.
	Checked func(id volume.ID, generation uint32) Checked
	Verify  func(id volume.ID)

	RepairRate  int64 // bytes a second that repair may fetch
	CompactRate int64 // bytes a second that compaction may write

	rtt func(node string) (time.Duration, bool) // of a peer; a test may have it fixed
}

const (
	defaultMaxVolume   = volume.DefaultMaxSize - 64<<20
	defaultMaxBlob     = 256 << 20
	defaultAckTimeout  = time.Second
	defaultPeerDown    = 5 * time.Second
	defaultEarlyFrom   = 5 * time.Millisecond
	defaultRepairRate  = 64 << 20
	defaultCompactRate = 64 << 20
)

// Fixed bounds. Waits on others are short since there is always somebody else to go to.
const (
	bulkFrom       = 1 << 20 // stored bytes from which a blob goes to a bulk volume
	maxPartners    = 8       // peers with whom this node keeps open volumes
	spillAt        = 64      // appends in flight at which the next volume shares the load
	maxQueued      = 8 << 20 // bytes that wait for one copy before the primary's writer waits too
	maxPuts        = 256     // blobs that peers put at once
	blobMemory     = 1 << 20 // of a peer's blob that is kept in memory
	connectTimeout = 2 * time.Second
	directoryWait  = 5 * time.Second
	fenceTimeout   = time.Second
	sealRetry      = 100 * time.Millisecond // after a seal that failed, doubled up to
	sealAtMost     = 10 * time.Second
	aloneAfter     = 3 // times PeerDown: then a copy that was read back from its disk is sealed though another does not answer
	bulkWait       = 500 * time.Millisecond
	idleTimeout    = 5 * time.Second // a peer that owes the next piece of a repair or a put
	slowAfter      = 4               // AckTimeout/slowAfter without progress: others are asked as well
	avoidFor       = 2 * time.Second // after a failure a peer is asked last
	refuseFor      = 2 * time.Second // after a failure no volume is opened with a peer
	reserveFor     = 5 * time.Second // after it was needed the reserve goes on so long
	reserveAfter   = time.Second     // after the start others are not missed before
	tickEvery      = 50 * time.Millisecond
	keepEvery      = time.Second
	diskEvery      = 2 * time.Second
	diskLow        = 8 << 20  // free bytes beyond the reserve at which the disk counts as full
	diskEnough     = 64 << 20 // and at which it no longer does
	orphanAfter    = time.Minute
	commitEvery    = 4 << 20 // bytes repaired between two fsyncs

	moveEvery    = time.Second     // between looks for copies to move
	moveAtOnce   = 4               // volumes that this node has on their way to other nodes
	moveAsks     = 64              // volumes whose new copies are asked after in a round
	moveRetry    = 2 * time.Second // after a step that failed, doubled up to moveAtMost
	moveAtMost   = time.Minute
	moveGiveUp   = time.Minute     // a new holder that is down so long has another one named beside it
	removedAfter = 2 * time.Second // a copy that its entry does not name any more stays, for readers who have not heard

	turnBytes  = 256 << 10              // of new mail that go to one volume at least before another has its turn
	turnShare  = 512                    // or that part of what the nodes took lately, if it is more
	shareFor   = time.Minute            // "lately": after so long bytes count 1/e
	shareEvery = 100 * time.Millisecond // how often nodes that take shareBytes of mail in the time ask how much the others took
	shareBytes = turnBytes / 8
	shareRest  = time.Second // and those that take less, or none
	shareWait  = time.Second
	passNear   = 1 // the farthest, in steps of distance, that mail goes to a node of the region that is below its share
)

func (c *Config) complete() error {
	if c.ID == "" || c.Region == "" {
		return errors.New("replica: node needs an id and a region")
	}
	if c.Net == nil || c.Directory == nil || c.Peers == nil || c.Log == nil {
		return fmt.Errorf("replica: node %s needs a network, a directory, peers and a log", c.ID)
	}
	if c.Paused == nil {
		c.Paused = func() bool { return false }
	}
	if c.rtt == nil {
		c.rtt = c.Net.RTT
	}
	if c.Dictionary == nil {
		c.Dictionary = func(uint32) *volume.Dictionary { return nil }
	}
	setDefault(&c.MaxVolume, defaultMaxVolume)
	setDefault(&c.MaxBlob, defaultMaxBlob)
	setDefault(&c.AckTimeout, defaultAckTimeout)
	setDefault(&c.PeerDown, defaultPeerDown)
	setDefault(&c.EarlyFrom, defaultEarlyFrom)
	setDefault(&c.RepairRate, defaultRepairRate)
	setDefault(&c.CompactRate, defaultCompactRate)
	return nil
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}
