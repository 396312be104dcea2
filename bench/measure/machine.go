package measure

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"hongyan/bench/report"
)

// Machine describes this machine and the disk that dir lies on. What cannot be found out stays empty.
func Machine(dir string) report.Machine {
	m := report.Machine{OS: runtime.GOOS + "/" + runtime.GOARCH, Cores: runtime.NumCPU()}
	m.Kernel = strings.TrimSpace(readAll("/proc/sys/kernel/osrelease"))
	m.CPU = field("/proc/cpuinfo", "model name")
	if kb, err := strconv.ParseUint(strings.TrimSuffix(field("/proc/meminfo", "MemTotal"), " kB"), 10, 64); err == nil {
		m.MemoryBytes = kb << 10
	}
	if load, _, ok := strings.Cut(readAll("/proc/loadavg"), " "); ok {
		m.LoadBefore, _ = strconv.ParseFloat(load, 64) // 0 where there is none
	}
	m.Filesystem = filesystem(dir)
	if took, err := fsyncTime(dir, 100); err == nil {
		m.FsyncSecs = took.Seconds()
	}
	return m
}

func readAll(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return string(b)
}

// field is the value of the first line "name : value" of a file in /proc.
func field(path, name string) string {
	for line := range strings.Lines(readAll(path)) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == name {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// filesystem is the type of the one that dir lies on: that of the longest mount point above it.
func filesystem(dir string) string {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return ""
	}
	f, err := os.Open("/proc/self/mounts")
	if err != nil {
		return ""
	}
	defer f.Close() // only read
	kind, longest := "", -1
	for s := bufio.NewScanner(f); s.Scan(); {
		parts := strings.Fields(s.Text())
		if len(parts) < 3 {
			continue
		}
		at := strings.TrimSuffix(parts[1], "/")
		if len(at) > longest && (abs == at || strings.HasPrefix(abs, at+"/")) {
			kind, longest = parts[2], len(at)
		}
	}
	return kind
}

// Space is what folders take on the disk.
type Space struct {
	Bytes int64 // allocated
	Files int64
}

// Folders adds up what lies in some folders. Files that vanish meanwhile do not count.
func Folders(dirs ...string) (Space, error) {
	var s Space
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
			if errors.Is(err, os.ErrNotExist) || err == nil && d.IsDir() {
				return nil
			}
			if err != nil {
				return err
			}
			fi, err := d.Info()
			if errors.Is(err, os.ErrNotExist) {
				return nil
			}
			if err != nil {
				return err
			}
			s.Files++
			if st, ok := fi.Sys().(*syscall.Stat_t); ok {
				s.Bytes += st.Blocks * 512
			} else {
				s.Bytes += fi.Size()
			}
			return nil
		})
		if err != nil {
			return s, fmt.Errorf("add up folder %s: %w", dir, err)
		}
	}
	return s, nil
}
