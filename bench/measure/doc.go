// Package measure looks at the machine and at the processes of a server from outside: processor time, memory, bytes written, flushes of
// the disk, bytes and files in folders, and the metrics that a node of ours serves.
//
// It reads /proc (proc(5)) and changes nothing, so it works for any server on this machine; elsewhere than on Linux most of it answers with
// an error that is errors.ErrUnsupported. It keeps no state: two readings and their difference are the caller's.
package measure
