package directory

import "testing"

// TestHold: what a shard entered in vain is kept for longer as long as it was kept, by whichever clock, and the note's other words stay. Nothing begins again that was over.
func TestHold(t *testing.T) {
	d := newTables(t)
	note := func(hold int64) RecoveryNote {
		t.Helper()
		n := RecoveryNote{Shard: 3, Since: 5, Until: 9, Hold: hold}
		if r := d.do(Command{NoteRecovery: &NoteRecovery{Notes: []RecoveryNote{n}}}); r.Refused != "" {
			t.Fatal(r.Refused)
		}
		v := d.store.View()
		defer v.Close()
		n, err := load[RecoveryNote](v, numberKey(recoveryTable, 3))
		if err != nil || n.Since != 5 || n.Until != 9 {
			t.Fatalf("%+v, %v", n, err)
		}
		return n
	}
	for _, step := range []struct{ hold, want int64 }{{200, 200}, {holdMargin, holdMargin}, {300, 0}, {300, 0}} {
		if n := note(step.hold); n.Hold != step.want || n.SurelyHeld(0) != (n.Hold == 200) {
			t.Errorf("held until %d: %+v", step.hold, n)
		}
	}
	txn := d.store.Begin()
	txn.SetIndex(1 << 40)
	if _, err := Mend(txn, nil, 0, nil, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := load[RecoveryNote](txn, numberKey(recoveryTable, 3)); err == nil {
		t.Error("a directory that is founded again has the note")
	}
	txn.Discard()
}
