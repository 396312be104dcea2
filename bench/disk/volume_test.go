package disk

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func mountTest(t *testing.T) (v *Volume, image, dir string) {
	t.Helper()
	if err := Supported(); err != nil {
		t.Skip(err)
	}
	root := t.TempDir()
	image, dir = filepath.Join(root, "disk.img"), filepath.Join(root, "disk")
	v, err := Mount(image, dir, MinSize)
	if err != nil {
		if strings.Contains(err.Error(), "loop") {
			t.Skip(err) // root of a container, without the devices
		}
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if on, _ := v.mounted(); on {
			if err := v.Unmount(); err != nil {
				t.Error(err)
			}
		}
	})
	return v, image, dir
}

func write(t *testing.T, path string, b []byte, sync bool) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err == nil {
		_, err = f.Write(b)
	}
	if err == nil && sync {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestPowerCut: what was fsynced is there, what was only written is not.
func TestPowerCut(t *testing.T) {
	v, _, dir := mountTest(t)
	data := bytes.Repeat([]byte("letter"), 50_000)
	kept, grown, lost := filepath.Join(dir, "kept"), filepath.Join(dir, "grown"), filepath.Join(dir, "lost")
	write(t, grown, data, true)
	write(t, kept, data, true)
	write(t, grown, data, false)
	write(t, lost, data, false)
	if err := v.Cut(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "after"), data, 0o600); err == nil {
		t.Error("a disk without power took a file")
	}
	if err := v.Restore(); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{kept, grown} {
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: %d bytes, %v; want the %d that were fsynced", path, len(got), err, len(data))
		}
	}
	if got, err := os.ReadFile(lost); err == nil && len(got) > 0 {
		t.Errorf("%d bytes survived that nobody fsynced", len(got))
	}
	write(t, kept, data, true) // and goes on as a disk
}

func TestFullDisk(t *testing.T) {
	v, _, dir := mountTest(t)
	if err := v.Fill(8 << 20); err != nil {
		t.Fatal(err)
	}
	if free, err := v.free(); err != nil || free > 9<<20 || free < 7<<20 {
		t.Errorf("%d bytes free, %v; want 8 MiB", free, err)
	}
	if err := v.Fill(0); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "more"), make([]byte, 1<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("write to a full disk: %v", err)
	}
	for range 2 {
		if err := v.Empty(); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(v.Cut(), v.Restore()); err != nil { // which must not bring the ballast back
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "more"), make([]byte, 1<<20), true)
}

func TestMountAgain(t *testing.T) {
	v, image, dir := mountTest(t)
	write(t, filepath.Join(dir, "file"), []byte("here"), false)
	if _, err := Mount(image, dir, 0); err != nil { // takes over from one that was killed
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "file")); err != nil || string(got) != "here" {
		t.Errorf("%q, %v", got, err)
	}
	if err := v.Unmount(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "file")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("not on the image: %v", err)
	}
	if _, err := Mount(image, dir, 2*MinSize); err == nil || !strings.Contains(err.Error(), "keeps that size") {
		t.Errorf("another size: %v", err)
	}
	if _, err := Mount(image+"2", dir, 5); err == nil || !strings.Contains(err.Error(), "expected 128 MiB") {
		t.Errorf("tiny: %v", err)
	}
	write(t, filepath.Join(dir, "outside"), []byte("here"), false)
	if _, err := Mount(image+"2", dir, MinSize); err == nil || !strings.Contains(err.Error(), "has data already") {
		t.Errorf("over data: %v", err)
	}
}
