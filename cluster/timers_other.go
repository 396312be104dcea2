//go:build !linux

package cluster

// LoosenTimers does nothing: there is no such setting on this system.
func LoosenTimers() {}
