package replica

import (
	"encoding/hex"
	"testing"

	"hongyan/engine/codec"
	"hongyan/engine/keys"
	"hongyan/engine/volume"
)

// TestEncodings holds the messages against what version 1 put on the wire: nodes of mixed versions run together.
func TestEncodings(t *testing.T) {
	ref := volume.Ref{Volume: 7, Record: 2, Length: 300}
	for _, c := range []struct {
		value any
		want  string
	}{
		{offerRequest{Class: volume.ClassBulk}, "a10101"},
		{offerRequest{Bytes: 4096}, "a102191000"},
		{offerRequest{Last: true}, "a103f5"},
		{shareRequest{}, "a0"},
		{shareReply{Key: 7, Taken: 300, Stores: true}, "a301070219012c03f5"},
		{wholeRequest{Volume: 7, Generation: 2, Length: 4096}, "a30107020203191000"},
		{wholeRequest{Volume: 7, Length: 4096, Leaving: "c", Prove: true, Rotten: true}, "a50107031910000461630" + "5f506f5"},
		{wholeReply{Whole: true}, "a101f5"},
		{wholeReply{Complete: true, Damaged: true, Tried: true, Records: []uint64{3}}, "a402f503f505f5068103"},
		{wholeReply{Complete: true, Proved: true}, "a202f504f5"},
		{streamOpen{Block: []byte("HY")}, "a101424859"},
		{streamOpen{Block: []byte("HY"), Seed: &keys.Seed{Key: []byte{1, 2}, Slots: 3}}, "a201424859" + "02a20142" + "01020203"},
		{streamAck{Durable: 4096, Received: 5000}, "a2011910000219" + "1388"},
		{fenceRequest{Volume: 7, Epoch: 1}, "a201070201"},
		{fenceReply{Exists: true, Durable: 4096}, "a201f502191000"},
		{fenceReply{Exists: true, Durable: 5000, Found: 4096, Unreadable: true}, "a401f502191388" + "0419100005f5"},
		{fenceReply{Exists: true, Durable: 5000, Found: 4096, Last: 2, LastFound: 1}, "a501f502191388" + "0419100006020701"},
		{rawRequest{Volume: 7, Off: 4096, End: 5000}, "a3010702191000" + "03191388"},
		{rawRequest{Volume: 7, Off: 4096, End: 5000, Generation: 2}, "a4010702191000" + "03191388" + "0502"},
		{prepareRequest{Volume: 7, Epoch: 2, Generation: 1, Block: []byte("HY"), Bytes: 4096, Records: 3}, "a601070202030104424859" + "051910000603"},
		{prepareReply{Length: 4096}, "a2011910000258" + "20" + zeros(32)},
		{eraseRequest{Volume: 7, Stay: []byte{1}}, "a20107024101"},
		{eraseReply{Erased: 3}, "a10103"},
		{spreadRequest{Volume: 7, Record: 300}, "a201070219012c"},
		{spreadReply{Through: 5, Sealed: true}, "a2010502f5"},
		{rawRequest{Volume: 7, Keys: true}, "a40107020003" + "0004f5"},
		{rawHead{Block: []byte("HY")}, "a101424859"},
		{rawHead{Block: []byte("HY"), Secret: &keys.Secret{Slots: []byte{9}}}, "a201424859" + "02a2015820" + zeros(32) + "024109"},
		{readRequest{Ref: volume.Ref{Volume: 7, Record: 2, Length: 300}, Off: 1, N: 2}, "a301" + encoded(t, ref) + "02010302"},
		{putRequest{Home: "sea", Meta: []byte("m"), Length: 3, Stored: 11, Kind: volume.KindMessage, Dictionary: 5}, "a70163736561024" + "16d0303040b055820" + zeros(32) + "06010705"},
		{putReply{Ref: ref}, "a101" + encoded(t, ref)},
		{Entry{ID: 7, Epoch: 1, Primary: "a", Copies: []string{"a", "b"}}, "a40107020103616104" + "8261616162"},
		{Entry{ID: 7, Epoch: 2, Primary: "a", Copies: []string{"a"}, Class: 1, State: Sealed, Length: 4096},
			"a7010702020361610481616105010601" + "07191000"},
		{Entry{ID: 7, Primary: "a", Copies: []string{"a"}, State: Sealed, Length: 4096, Last: 9}, "a601070361610481616106010719100" + "00c09"},
	} {
		if got := encoded(t, c.value); got != c.want {
			t.Errorf("%#v\n is %s\nwant %s", c.value, got, c.want)
		}
	}
}

func encoded(t *testing.T, v any) string {
	t.Helper()
	b, err := codec.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(b)
}

func zeros(n int) string { return hex.EncodeToString(make([]byte, n)) }
