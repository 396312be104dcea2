package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// Sizes of a Volume.
const (
	MinSize = 128 << 20 // bytes; its own journal takes some of it
	MaxSize = 1 << 40

	Ballast = "ballast" // name of the file that fills it

	busyWait = 10 * time.Second // for a process that was killed to let go of its files
	busyPoll = 20 * time.Millisecond
)

// Volume is a folder on a file system of its own, whose blocks are the image file. One goroutine at a time may use it.
type Volume struct {
	image, dir string
}

// Mount puts the file system of the image at dir, and makes it when there is no image: of size bytes, in a dir that is empty or not
// there. With a size of 0 there must be an image.
func Mount(image, dir string, size int64) (*Volume, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make folder for a file system: %w", err)
	}
	v := &Volume{image, dir}
	old, err := v.mounted()
	if err != nil {
		return nil, err
	}
	if old { // by somebody who was killed
		if err := v.Unmount(); err != nil {
			return nil, err
		}
	}
	fi, err := os.Stat(image)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = v.create(size)
	case err == nil && size != 0 && fi.Size() != size:
		err = fmt.Errorf("%s was made with %d MiB and keeps that size, not %d MiB", image, fi.Size()>>20, size>>20)
	}
	if err != nil {
		return nil, err
	}
	return v, v.mount()
}

// create makes the image under another name first: one that has its name is whole.
func (v *Volume) create(size int64) (err error) {
	if size < MinSize || size > MaxSize {
		return fmt.Errorf("size of %d bytes: expected %d MiB to %d GiB", size, MinSize>>20, MaxSize>>30)
	}
	there, err := os.ReadDir(v.dir)
	if err != nil {
		return fmt.Errorf("look for data: %w", err)
	}
	if len(there) > 0 {
		return fmt.Errorf("%s has data already, outside any image: a cluster gets its disks at its first start", v.dir)
	}
	tmp := v.image + ".tmp"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("make image: %w", err)
	}
	if err := errors.Join(f.Truncate(size), f.Close()); err != nil {
		return fmt.Errorf("make image %s: %w", tmp, err)
	}
	// No lazy initialisation, which would write in the background; no blocks kept for root, which the processes may be.
	if err := command("mkfs.ext4", "-q", "-F", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0,root_owner="+owner(), tmp); err != nil {
		return fmt.Errorf("make file system in %s: %w", tmp, err)
	}
	if err := os.Rename(tmp, v.image); err != nil {
		return fmt.Errorf("name image: %w", err)
	}
	return nil
}

func owner() string { return fmt.Sprintf("%d:%d", os.Getuid(), os.Getgid()) }

// mount replays the journal if need be. The journal commits by itself only every five minutes.
func (v *Volume) mount() error {
	if err := command("mount", "-t", "ext4", "-o", "loop,noatime,commit=300", v.image, v.dir); err != nil {
		return fmt.Errorf("mount %s: %w", v.image, err)
	}
	if err := os.RemoveAll(filepath.Join(v.dir, "lost+found")); err != nil {
		return fmt.Errorf("clear new file system: %w", err)
	}
	return nil
}

// mounted says whether another file system lies on dir.
func (v *Volume) mounted() (bool, error) {
	var in, out syscall.Stat_t
	if err := errors.Join(syscall.Stat(v.dir, &in), syscall.Stat(filepath.Dir(v.dir), &out)); err != nil {
		return false, fmt.Errorf("look for a mount at %s: %w", v.dir, err)
	}
	return in.Dev != out.Dev, nil
}

// Unmount writes everything back, unless the volume was cut. It waits for processes that are about to end.
func (v *Volume) Unmount() error {
	for deadline := time.Now().Add(busyWait); ; time.Sleep(busyPoll) {
		err := syscall.Unmount(v.dir, 0)
		if err == nil {
			return nil
		}
		if !errors.Is(err, syscall.EBUSY) || time.Now().After(deadline) {
			return fmt.Errorf("unmount %s: %w", v.dir, err)
		}
	}
}

// Restore mounts a volume that was cut, as its image now is.
func (v *Volume) Restore() error {
	if err := v.Unmount(); err != nil {
		return err
	}
	return v.mount()
}

// Fill takes the space until left bytes remain. It is durable, as far as a full disk lets anything be.
func (v *Volume) Fill(left int64) (err error) {
	f, err := os.OpenFile(filepath.Join(v.dir, Ballast), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("fill disk: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	fi, err := f.Stat()
	if err != nil {
		return fmt.Errorf("fill disk: %w", err)
	}
	for size, step := fi.Size(), int64(MaxSize); step >= 4<<10; {
		free, err := v.free()
		if err != nil {
			return err
		}
		step = min(step, free-left)
		err = allocate(f, size, step)
		switch {
		case step <= 0:
		case err == nil:
			size += step
		case errors.Is(err, syscall.ENOSPC): // the file's own bookkeeping takes blocks too
			step /= 2
		default:
			return fmt.Errorf("fill disk: %w", err)
		}
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("fill disk: %w", err)
	}
	return nil
}

// free is the space left in bytes.
func (v *Volume) free() (int64, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(v.dir, &st); err != nil {
		return 0, fmt.Errorf("ask for the space in %s: %w", v.dir, err)
	}
	return int64(st.Bavail) * int64(st.Bsize), nil
}

// Empty undoes Fill, durably: a power cut must not bring the ballast back.
func (v *Volume) Empty() error {
	err := os.Remove(filepath.Join(v.dir, Ballast))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("give space back: %w", err)
	}
	return v.Sync()
}
