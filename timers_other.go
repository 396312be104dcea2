//go:build !linux

package main

// loosenTimers does nothing: there is no such setting on this system.
func loosenTimers() {}
