package effort

import "testing"

func TestOf(t *testing.T) {
	t.Setenv("HONGYAN_NIGHTLY", "")
	day := 2
	if raced {
		day = 1
	}
	if n := Of(1, 2, 3); n != day || Nightly() {
		t.Errorf("by day %d, raced %v, nightly %v", n, raced, Nightly())
	}
	if few, many := Times(3, 50), Times(100, 50); raced && (few != 1 || many != 20) || !raced && (few != 3 || many != 100) {
		t.Errorf("by day %d and %d", few, many)
	}
	t.Setenv("HONGYAN_NIGHTLY", "1")
	if n, m := Of(1, 2, 3), Times(3, 50); n != 3 || m != 150 || !Nightly() {
		t.Errorf("at night %d and %d", n, m)
	}
}
