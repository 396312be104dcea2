package config

// Defaults of the cold tier.
const (
	DefaultColdAfter  = 30 * 24 * 3600
	DefaultColdLeast  = 64 << 20
	DefaultColdData   = 4
	DefaultColdParity = 2
	DefaultColdRate   = 32 << 20
)

// Cold says which sealed volumes become Reed–Solomon fragments. Without the section none does; those that are cold already are
// read and looked after all the same.
type Cold struct {
	AfterSeconds    int64 `yaml:"after_seconds,omitempty"` // since the volume was sealed
	MinBytes        int64 `yaml:"min_bytes,omitempty"`     // smaller volumes stay as they are
	DataFragments   int64 `yaml:"data_fragments,omitempty"`
	ParityFragments int64 `yaml:"parity_fragments,omitempty"` // as many may be lost, and no region holds more
	BytesPerSecond  int64 `yaml:"bytes_per_second,omitempty"` // that conversion, rebuild and verification read
}

func (c *Cold) setDefaults() {
	if c == nil {
		return
	}
	for _, f := range []struct {
		value     *int64
		otherwise int64
	}{
		{&c.AfterSeconds, DefaultColdAfter}, {&c.MinBytes, DefaultColdLeast}, {&c.DataFragments, DefaultColdData},
		{&c.ParityFragments, DefaultColdParity}, {&c.BytesPerSecond, DefaultColdRate},
	} {
		if *f.value == 0 {
			*f.value = f.otherwise
		}
	}
}

// cold checks the section. A volume that was made whole again to be compacted must be compacted before it turns cold once more.
func (c *checker) cold(k *Cold, collect Compaction) {
	if k == nil {
		return
	}
	c.between("cold.after_seconds", k.AfterSeconds, collect.GraceSeconds+2*collect.IntervalSeconds, 100*365*24*3600)
	c.between("cold.min_bytes", k.MinBytes, 1, 1<<40)
	c.between("cold.data_fragments", k.DataFragments, 1, 32)
	c.between("cold.parity_fragments", k.ParityFragments, 1, 16)
	c.between("cold.bytes_per_second", k.BytesPerSecond, 1<<10, 1<<40)
}
