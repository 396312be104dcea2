package replica

import (
	"fmt"
	"slices"
)

// MaxCopies is how many nodes the entry names at most: those that stay, and two on which it was tried.
func (e Entry) MaxCopies() int { return e.Wanted() + 2 }

// WithCopy names one more node for a copy of a sealed volume. The node makes it by repair. epoch is that of the entry which the decision was made on.
func (e Entry) WithCopy(node string, epoch uint64) (Entry, error) {
	switch err := e.movable(epoch); {
	case err != nil:
		return e, err
	case node == "" || e.Holds(node):
		return e, fmt.Errorf("volume %s: %q has a copy already, or is no node", e.ID, node)
	case len(e.Copies) >= e.MaxCopies():
		return e, fmt.Errorf("volume %s has %d copies already", e.ID, len(e.Copies))
	}
	e.Copies = append(slices.Clone(e.Copies), node)
	return e.moved(), nil
}

// WithoutCopy takes a node out of a sealed volume's entry, if as many are left as its policy wants. If it was the primary the first of the others is from then on.
func (e Entry) WithoutCopy(node string, epoch uint64) (Entry, error) {
	switch err := e.movable(epoch); {
	case err != nil:
		return e, err
	case !e.Holds(node):
		return e, fmt.Errorf("volume %s has no copy on %q", e.ID, node)
	case len(e.Copies) <= e.Wanted():
		return e, fmt.Errorf("volume %s has only %d copies", e.ID, len(e.Copies))
	}
	e.Copies = slices.DeleteFunc(slices.Clone(e.Copies), func(other string) bool { return other == node })
	if e.Primary == node {
		e.Primary = e.Copies[0]
	}
	return e.moved(), nil
}

// movable says why copies of the volume cannot change.
func (e Entry) movable(epoch uint64) error {
	switch {
	case e.State != Sealed || e.Length == 0:
		return fmt.Errorf("volume %s is open or empty", e.ID)
	case e.Cold != nil:
		return fmt.Errorf("volume %s is cold", e.ID)
	case e.Epoch != epoch:
		return fmt.Errorf("volume %s has changed since: epoch %d, not %d", e.ID, e.Epoch, epoch)
	}
	return nil
}

// moved counts a change of the copies. A compaction that was begun is given up: it had its file prepared by other nodes than those that are
// named now.
func (e Entry) moved() Entry {
	e.Epoch++
	if e.Attempt > e.Generation {
		e.Attempt++
	}
	return e
}
