package cold

import (
	"errors"
	"slices"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"

	"hongyan/engine/keys"
)

// keyFile is where the keys of volume 7 lie beside its fragments.
const keyFile = "cold/0000000000000007.key"

// spoil writes over what lies beside the fragments of a node.
func spoil(t *testing.T, n *node, path string, offsets ...int64) {
	t.Helper()
	f, err := n.fs.OpenReadWrite(path, "")
	must(t, err)
	for _, off := range offsets {
		_, err = f.WriteAt([]byte("damage"), off)
		must(t, err)
	}
	must(t, f.Close())
}

// wholeKeys fails unless the key file of a node has no damage.
func wholeKeys(t *testing.T, n *node) {
	t.Helper()
	must(t, n.frags.UseKeys(7, func(f *keys.File) error {
		found, err := f.Damage()
		if len(found) > 0 {
			t.Errorf("keys on %s are damaged at %v", n.id, found)
		}
		return err
	}))
}

// settled makes volume 7 cold, with its copies gone and its fragments verified.
func settled(t *testing.T) *cluster {
	c := newCluster(t, "a", "b", "c")
	c.sealed(7, 20)
	for _, s := range []int64{61, 62, 100, 101, 102} {
		c.round(at(s))
	}
	for _, n := range c.nodes {
		if len(n.set.List()) > 0 || len(n.m.verified) != 2 {
			t.Fatalf("%s has copies %v, and has verified %v", n.id, n.set.List(), n.m.verified)
		}
	}
	return c
}

// TestDamagedKeysAreMended: one sector of a key file beside fragments cannot keep keys from being destroyed for ever. What is destroyed stays so.
func TestDamagedKeysAreMended(t *testing.T) {
	c := settled(t)
	n, stay := c.nodes[1], roaring.BitmapOf(1, 2, 40)
	must(t, n.m.Destroy(7, []uint64{40})) // in the sector behind the damaged one, and nowhere else
	spoil(t, n, keyFile, 8192+100)
	if _, err := n.m.Erase(7, stay); err == nil {
		t.Fatal("keys destroyed in a sector that is damaged")
	}
	c.round(at(103), 0, 2)
	wholeKeys(t, n)
	if _, err := n.m.Erase(7, stay); err != nil {
		t.Error(err)
	}
	if _, err := n.frags.Record(7, 40); !errors.Is(err, keys.ErrDestroyed) {
		t.Errorf("a destroyed key is back: %v", err)
	}
	if _, err := n.frags.Record(7, 2); err != nil {
		t.Errorf("a mended key: %v", err)
	}

	// Nobody has asked for them: they are found with the fragment, also a file without a header that is right.
	spoil(t, n, keyFile, 100, 4096+100)
	n.m.mu.Lock()
	clear(n.m.verified)
	n.m.mu.Unlock()
	c.round(at(104), 0, 2)
	wholeKeys(t, n)
}

// TestLostKeysComeBack: a key file that is gone is missed, and a node that has none is no source of what belongs to a volume.
func TestLostKeysComeBack(t *testing.T) {
	c := settled(t)
	order := c.entry(7).Sources()
	at3 := func(i int) int { return slices.IndexFunc(c.nodes, func(n *node) bool { return n.id == order[i] }) }
	without, replaced := c.nodes[at3(0)], c.nodes[at3(2)] // the one is asked first by the other
	must(t, without.fs.Remove(keyFile))
	for _, name := range replaced.files(t, "cold") {
		must(t, replaced.fs.Remove("cold/"+name))
	}
	if _, err := without.m.attached(t.Context(), c.entry(7)); err == nil {
		t.Error("an attachment without its keys was given to another node")
	}
	c.round(at(103), at3(0), at3(1))
	wholeKeys(t, replaced)
	c.expect(replaced)
	c.round(at(104))
	wholeKeys(t, without)
	c.expect(without)

	// With no keys anywhere that is said again and again.
	for _, n := range c.nodes {
		must(t, n.fs.Remove(keyFile))
	}
	failures := without.m.stats.failures.Load()
	c.round(at(105))
	if without.m.stats.failures.Load() == failures {
		t.Error("nobody misses the keys")
	}
}

// TestCopyStaysWithoutKeys: a whole copy is not dropped for fragments that nobody can decrypt.
func TestCopyStaysWithoutKeys(t *testing.T) {
	c := newCluster(t, "a", "b", "c")
	c.sealed(7, 12)
	c.round(at(61))
	n := c.nodes[2]
	c.round(at(62))
	must(t, n.fs.Remove(keyFile))
	c.round(at(100), 2)
	if len(c.nodes[0].set.List()) != 1 {
		t.Error("the copy is gone and the keys beside two fragments as well")
	}
	must(t, n.m.rebuild(c.entry(7), n.frags.List()[0]))
	spoil(t, n, keyFile, 100, 4096+100)
	c.round(at(120), 2)
	if len(c.nodes[0].set.List()) != 1 {
		t.Error("the copy is gone and the keys beside two fragments are of no use")
	}
	c.round(at(140))
	c.round(at(160))
	if len(c.nodes[0].set.List()) != 0 {
		t.Error("the copy stays")
	}
	wholeKeys(t, n)
}

// TestDamagedIndexIsMended: a record index beside fragments that cannot be used is fetched from another node, and given to none.
func TestDamagedIndexIsMended(t *testing.T) {
	c := settled(t)
	n, live := c.nodes[0], roaring.BitmapOf(1, 2)
	path := n.frags.IndexPath(7, 0)
	spoil(t, n, path, 20)
	n.m.views.forget(7) // as after a restart
	if _, err := n.m.Census(t.Context(), c.entry(7), live); err == nil {
		t.Fatal("records counted by a damaged index")
	}
	c.round(at(103), 1, 2)
	if _, err := n.m.Census(t.Context(), c.entry(7), live); err != nil {
		t.Error(err)
	}

	// Nobody has asked for it: it is found with the fragment, also where only a later block is damaged.
	spoil(t, n, path, 4096+20)
	n.m.mu.Lock()
	clear(n.m.verified)
	n.m.mu.Unlock()
	c.round(at(104), 1, 2)
	must(t, n.frags.CheckIndex(7, 0))

	// It is no source for others, and what is fetched from it is mended soon.
	order := c.entry(7).Sources()
	at3 := func(i int) int { return slices.IndexFunc(c.nodes, func(n *node) bool { return n.id == order[i] }) }
	broken, replaced := c.nodes[at3(0)], c.nodes[at3(2)] // the one is asked first by the other
	spoil(t, broken, path, 20)
	l := layout(c.entry(7))
	if r, err := broken.m.serveHave(t.Context(), order[1], &haveRequest{Fragment: fragmentID{Volume: 7}, Layout: &l}); err != nil || r.Whole {
		t.Errorf("a fragment with a damaged index is said to be whole: %v", err)
	}
	must(t, replaced.fs.Remove(path))
	c.round(at(105), at3(0), at3(1))
	must(t, replaced.frags.CheckIndex(7, 0))
	c.round(at(106))
	must(t, broken.frags.CheckIndex(7, 0))
}

// TestPlainVolume: one that is not encrypted has no keys to miss, though the node has a master key.
func TestPlainVolume(t *testing.T) {
	c := newCluster(t, "a", "b", "c")
	c.sealedBy(7, 12, nil)
	for _, s := range []int64{61, 62, 100, 101} {
		c.round(at(s))
	}
	n := c.nodes[2]
	must(t, n.fs.Remove(n.frags.IndexPath(7, 0)))
	c.round(at(102))
	for _, n := range c.nodes {
		if len(n.set.List()) > 0 || n.m.stats.failures.Load() > 0 {
			t.Errorf("%s has copies %v; %d failures", n.id, n.set.List(), n.m.stats.failures.Load())
		}
		c.expect(n)
	}
	if _, err := n.m.attached(t.Context(), c.entry(7)); err != nil {
		t.Error(err)
	}
}
