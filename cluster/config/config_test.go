package config

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

const minimal = `id: a
region: south-china
roles: [storage]
data: /d
rpc: {listen: "127.0.0.1:7001"}
tls: {ca: ca.pem, cert: c.pem, key: k.pem}
`

func TestLoadReadsEveryKey(t *testing.T) {
	n, err := Load("testdata/full.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if n.Peers[1].RPC != "[2001:db8::1]:7001" || n.Shards != 8 || n.Listeners.IMAP.Address != "[::]:143" {
		t.Errorf("read %+v", n)
	}
	if got := n.Listeners.HTTP.Allow; !reflect.DeepEqual(got, []string{"10.1.0.0/16"}) {
		t.Errorf("http allows %v", got)
	}
	again := filepath.Join(t.TempDir(), "node.yaml")
	if err := n.Write(again); err != nil {
		t.Fatal(err)
	}
	second, err := Load(again)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(n, second) {
		t.Errorf("written and read again:\n%+v\nwant\n%+v", second, n)
	}
	if fi, err := os.Stat(again); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v; want 0600", fi.Mode(), err)
	}
}

// The file that shows every key does, but for one of two that exclude each other, and a listener's keys once.
func TestFullFileHasEveryKey(t *testing.T) {
	b, err := os.ReadFile("testdata/full.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var keys func(t reflect.Type, at string) []string
	keys = func(t reflect.Type, at string) (all []string) {
		for i, key := range keysOf(t) {
			f := t.Field(i).Type
			for f.Kind() == reflect.Pointer || f.Kind() == reflect.Slice {
				f = f.Elem()
			}
			if all = append(all, at+key); f.Kind() == reflect.Struct {
				all = append(all, keys(f, at+key+".")...)
			}
		}
		return all
	}
	c := checker{lines: map[string]int{}}
	c.shape(document(t, b), reflect.TypeFor[Node](), "")
	for _, key := range keys(reflect.TypeFor[Node](), "") {
		at := strings.Replace(key, "peers.", "peers[0].", 1)
		if strings.HasPrefix(at, "listeners.") && strings.HasSuffix(at, ".allow") {
			at = "listeners.http.allow"
		}
		if _, ok := c.lines[at]; !ok && key != "encryption.master_key_file" {
			t.Errorf("full.yaml lacks %s", key)
		}
	}
}

func document(t *testing.T, b []byte) ast.Node {
	t.Helper()
	tree, err := parser.ParseBytes(b, 0)
	if err != nil {
		t.Fatal(err)
	}
	return tree.Docs[0].Body
}

func TestDefaultsOpenOnlyClientProtocolsToTheWorld(t *testing.T) {
	n, err := Parse("node.yaml", []byte(strings.Replace(minimal, "[storage]", "[storage, frontend]", 1)+`
server_tls: {cert: s.pem, key: s.key}
listeners:
  smtp: {address: ":25"}
  lmtp: {address: ":24"}
  http: {address: ":8080"}
`))
	if err != nil {
		t.Fatal(err)
	}
	for name, got := range map[string][]string{"lmtp": n.Listeners.LMTP.Allow, "http": n.Listeners.HTTP.Allow, "rpc": n.RPC.Allow} {
		if !reflect.DeepEqual(got, Inside()) {
			t.Errorf("%s allows %v, want inner networks only", name, got)
		}
	}
	if got := n.Listeners.SMTP.Allow; !reflect.DeepEqual(got, Everywhere()) {
		t.Errorf("smtp allows %v", got)
	}
	if len(n.Listeners.SMTP.Prefixes()) != 2 || len(n.RPC.Prefixes()) != len(Inside()) {
		t.Error("networks were not all parsed")
	}
	if n.Shards != DefaultShards || n.MaxMessageBytes != DefaultMaxMessage || n.Hostname != "a" {
		t.Errorf("defaults: %+v", n)
	}
}

func TestMistakesNameFileLineAndExpectation(t *testing.T) {
	tests := []struct {
		name, file string
		want       []string
	}{
		{"empty", "", []string{"node.yaml:1: expected one YAML document"}},
		{"two documents", minimal + "---\nid: b\n", []string{"node.yaml:1: expected one YAML document"}},
		{"not yaml", "id: [a\n", []string{"node.yaml:1: "}},
		{"a list", "- a\n", []string{"node.yaml:1: expected", "got a list"}},
		{"unknown key", minimal + "colour: red\n", []string{"node.yaml:7: colour: unknown key; expected one of id, region, roles"}},
		{"unknown inner key", strings.Replace(minimal, "listen:", "lisen:", 1), []string{"node.yaml:5: rpc.lisen: unknown key; expected one of listen, advertise, allow"}},
		{"key twice", minimal + "id: b\n", []string{"node.yaml:7: ", "id"}},
		{"no value", minimal + "hostname:\n", []string{"node.yaml:7: hostname: expected a value, got nothing"}},
		{"string for a number", minimal + "shards: many\n", []string{`node.yaml:7: shards: expected a whole number, got "many"`}},
		{"string for a truth", minimal + "join: later\n", []string{`node.yaml:7: join: expected true or false, got "later"`}},
		{"fraction", minimal + "shards: 1.5\n", []string{`node.yaml:7: shards: expected a whole number, got "1.5"`}},
		{"huge number", minimal + "shards: 99999999999999999999999\n", []string{"node.yaml:7: shards: expected a whole number"}},
		{"number for a string", strings.Replace(minimal, "id: a", "id: 7", 1), []string{`node.yaml:1: id: expected a string, got "7"`}},
		{"string for a list", strings.Replace(minimal, "[storage]", "storage", 1), []string{`node.yaml:3: roles: expected a list, got "storage"`}},
		{"role", strings.Replace(minimal, "[storage]", "[storage, relay]", 1), []string{`node.yaml:3: roles[1]: expected "storage" or "frontend", got "relay"`}},
		{"role twice", strings.Replace(minimal, "[storage]", "[storage, storage]", 1), []string{"node.yaml:3: roles[1]: expected each role once"}},
		{"id", strings.Replace(minimal, "id: a", "id: A_b", 1), []string{"node.yaml:1: id: expected a name of a-z"}},
		{"missing data", strings.Replace(minimal, "data: /d\n", "", 1), []string{"node.yaml:1: data: expected a folder, got nothing"}},
		{"missing key file", strings.Replace(minimal, ", key: k.pem", "", 1), []string{"node.yaml:6: tls.key: expected a file"}},
		{"address", strings.Replace(minimal, "127.0.0.1:7001", "127.0.0.1", 1), []string{`node.yaml:5: rpc.listen: expected HOST:PORT, got "127.0.0.1"`}},
		{"port", strings.Replace(minimal, ":7001", ":70010", 1), []string{"node.yaml:5: rpc.listen: expected HOST:PORT"}},
		{"advertised", strings.Replace(minimal, `7001"`, `7001", advertise: nonsense`, 1), []string{`node.yaml:5: rpc.advertise: expected HOST:PORT that can be dialled, got "nonsense"`}},
		{"advertised without a host", strings.Replace(minimal, `7001"`, `7001", advertise: ":1"`, 1), []string{`node.yaml:5: rpc.advertise: expected HOST:PORT that can be dialled, got ":1"`}},
		{"peer without a host", minimal + "peers:\n  - {id: b, region: r, roles: [storage], rpc: \":7001\"}\n",
			[]string{`node.yaml:8: peers[0].rpc: expected HOST:PORT that can be dialled, got ":7001"`}},
		{"two listeners at one address", strings.Replace(minimal, "[storage]", "[frontend]", 1) + "server_tls: {cert: s, key: k}\nlisteners:\n  imap: {address: \"10.0.0.1:143\"}\n  pop3: {address: \":143\"}\n",
			[]string{`node.yaml:10: listeners.pop3.address: expected an address of its own, got ":143", where listeners.imap ("10.0.0.1:143") listens`}},
		{"a listener at the nodes' address", minimal + "listeners:\n  http: {address: \"0.0.0.0:7001\"}\n",
			[]string{`node.yaml:8: listeners.http.address: expected an address of its own, got "0.0.0.0:7001", where rpc.listen ("127.0.0.1:7001") listens`}},
		{"network", minimal + "listeners:\n  http:\n    address: :80\n    allow:\n      - 10.0.0.0/8\n      - anywhere\n",
			[]string{`node.yaml:12: listeners.http.allow[1]: expected a network such as 10.0.0.0/8 or ::1/128, got "anywhere"`}},
		{"nobody is allowed", minimal + "listeners:\n  http: {address: \":80\", allow: []}\n",
			[]string{"node.yaml:8: listeners.http.allow: expected at least one entry, got an empty list"}},
		{"no peer is allowed", strings.Replace(minimal, `7001"`, `7001", allow: []`, 1), []string{"node.yaml:5: rpc.allow: expected at least one entry"}},
		{"no shards", minimal + "shards: 0\n", []string{"node.yaml:7: shards: expected at least 1, got 0; leave the key out for its default"}},
		{"no reserve", minimal + "disk_reserve_bytes: 0x0\n", []string{"node.yaml:7: disk_reserve_bytes: expected at least 1, got 0"}},
		{"volumes of any size turn cold", minimal + "cold: {min_bytes: 0}\n", []string{"node.yaml:7: cold.min_bytes: expected at least 1, got 0"}},
		{"shards", minimal + "shards: 5000\n", []string{"node.yaml:7: shards: expected 1 to 1024, got 5000"}},
		{"token", minimal + "admin_token_sha256: secret\n", []string{"node.yaml:7: admin_token_sha256: expected 64 hexadecimal digits"}},
		{"two sources of keys", minimal + "encryption: {master_key_file: k, command: [kms]}\n", []string{"node.yaml:7: encryption: expected either master_key_file"}},
		{"no source of keys", minimal + "encryption: {}\n", []string{"node.yaml:7: encryption: expected either master_key_file"}},
		{"empty command", minimal + "encryption: {command: [\"\"]}\n", []string{"node.yaml:7: encryption.command[0]: expected a program"}},
		{"own id among peers", minimal + "peers:\n  - {id: a, region: r, roles: [storage], rpc: \"h:1\"}\n", []string{"node.yaml:8: peers[0].id: expected the other nodes"}},
		{"listener without the role", minimal + "listeners:\n  imap: {address: \":143\"}\n", []string{`node.yaml:8: listeners.imap: expected the role "frontend"`}},
		{"frontend without certificate", strings.Replace(minimal, "[storage]", "[frontend]", 1) + "listeners:\n  imap: {address: \":143\"}\n",
			[]string{"server_tls.cert: expected a file"}},
		{"alias", minimal + "hostname: &h x\n", []string{"node.yaml:7: hostname: expected a string, got an anchor"}},
		{"several at once", "id: a\nregion: R\nroles: [x]\ndata: /d\nrpc: {listen: 1.2.3.4}\ntls: {ca: a, cert: b, key: c}\n",
			[]string{"node.yaml:2: region:", "node.yaml:3: roles[0]:", "node.yaml:5: rpc.listen:"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse("node.yaml", []byte(tt.file))
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("got %v, want an *Error", err)
			}
			for _, w := range tt.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("got  %q\nwant %q in it", err, w)
				}
			}
		})
	}
}

// Certificates and keys lie beside the file that names them, wherever the node is started, and --check says which are not there.
func TestFilesLieBesideTheConfiguration(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "node.yaml")
	text := strings.Replace(minimal, "k.pem", filepath.Join(dir, "keys", "k.pem"), 1) + "server_tls: {cert: s.pem, key: s.key}\nencryption: {master_key_file: m.key}\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	n, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	want := NodeTLS{CA: filepath.Join(dir, "ca.pem"), Cert: filepath.Join(dir, "c.pem"), Key: filepath.Join(dir, "keys", "k.pem")}
	if n.TLS != want || n.ServerTLS.Key != filepath.Join(dir, "s.key") || n.Encryption.MasterKeyFile != filepath.Join(dir, "m.key") || n.Data != "/d" {
		t.Errorf("read %+v", n)
	}
	if err := os.Mkdir(filepath.Join(dir, "ca.pem"), 0o700); err != nil {
		t.Fatal(err)
	}
	_, err = Check(path)
	for _, w := range []string{"node.yaml:6: tls.ca: expected a file that can be read: ", "node.yaml:6: tls.cert: ", "node.yaml:6: tls.key: ", "node.yaml:7: server_tls.cert: ",
		"node.yaml:7: server_tls.key: ", "node.yaml:8: encryption.master_key_file: expected a file that can be read: open " + filepath.Join(dir, "m.key") + ": no such file"} {
		if err == nil || !strings.Contains(err.Error(), w) {
			t.Errorf("got  %v\nwant %q in it", err, w)
		}
	}
	if err := os.Remove(filepath.Join(dir, "ca.pem")); err != nil {
		t.Fatal(err)
	}
	for _, f := range n.files() {
		if err := errors.Join(os.MkdirAll(filepath.Dir(*f.path), 0o700), os.WriteFile(*f.path, []byte("x"), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err = Check(path); err != nil {
		t.Error(err)
	}
}

// The manual's sample is one that a node takes.
func TestSampleOfTheManual(t *testing.T) {
	b, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, sample, _ := strings.Cut(string(b), "```yaml\n")
	sample, _, _ = strings.Cut(sample, "```\n")
	if _, err := Parse("node.yaml", []byte(sample)); err != nil {
		t.Error(err)
	}
}

func TestLoadRefusesHugeAndMissingFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "node.yaml")
	if _, err := Load(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
	if err := os.WriteFile(path, []byte(strings.Repeat("#\n", maxFile)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("huge file: %v", err)
	}
}

// FuzzParse: no bytes make the reader panic, and what it takes it can write and read again.
func FuzzParse(f *testing.F) {
	full, err := os.ReadFile("testdata/full.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(full)
	f.Add([]byte(minimal))
	f.Add([]byte("a: &a [*a]\n? {b: !!int c}\n: |\n  d"))
	path := filepath.Join(f.TempDir(), "node.yaml")
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := Parse(path, b)
		if err != nil {
			return
		}
		if err := n.Write(path); err != nil {
			t.Fatal(err)
		}
		again, err := Load(path)
		if err != nil {
			t.Fatalf("written but not readable: %v", err)
		}
		if !reflect.DeepEqual(n, again) {
			t.Fatalf("changed on the way:\n%+v\n%+v", n, again)
		}
	})
}
