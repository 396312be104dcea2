package load

import (
	"fmt"
	"math"
	"math/rand/v2"
	"sort"
)

// Skew says how unevenly mail falls on accounts: account k of n, counted from 1, gets a share in proportion to 1/k^s. Exponent 0 is an even
// spread; about 1 is what web and mail traces show. A pick depends on the seed and its number only, so that a run can be
// repeated and no lock is needed.
type Skew struct {
	seed uint64
	n    int
	cum  []float64 // share of accounts 0 to i; nil when even
}

// NewSkew spreads over n accounts with exponent s from 0 to 10.
func NewSkew(n int, s float64, seed uint64) (*Skew, error) {
	if n < 1 || n > maxAccounts || s < 0 || s > 10 || math.IsNaN(s) {
		return nil, fmt.Errorf("skew of exponent %g over %d accounts: want an exponent from 0 to 10 and an account", s, n)
	}
	k := &Skew{seed: seed, n: n}
	if s == 0 {
		return k, nil
	}
	k.cum = make([]float64, n)
	sum := 0.0
	for i := range k.cum {
		sum += math.Pow(float64(i+1), -s)
		k.cum[i] = sum
	}
	for i := range k.cum {
		k.cum[i] /= sum
	}
	return k, nil
}

// Pick is the account of message number n.
func (k *Skew) Pick(n uint64) int {
	rng := rand.NewPCG(k.seed, n)
	if k.cum == nil {
		return int(rng.Uint64() % uint64(k.n))
	}
	u := float64(rng.Uint64()>>11) / (1 << 53)
	return min(sort.SearchFloat64s(k.cum, u), k.n-1)
}
