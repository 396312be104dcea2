package lab

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestCommandLine holds what scripts rely on: exit statuses, and one clear line on standard error.
func TestCommandLine(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the program")
	}
	bin, dir := program.Build(t, "../.."), t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good, err := os.ReadFile("../../cluster/config/testdata/full.yaml")
	if err != nil {
		t.Fatal(err)
	}
	right := write("right.yaml", string(good))
	for _, name := range []string{"ca.pem", "node.pem", "node.key", "server.pem", "server.key"} {
		write(name, "only looked for")
	}
	bare := write("bare.yaml", strings.Replace(string(good), "key: server.key", "key: none.key", 1))
	wrong := write("wrong.yaml", strings.Replace(string(good), "shards: 8", "shrads: 8", 1))
	tests := []struct {
		args   string
		status int
		want   string // in what it prints, on standard error unless the status is 0
	}{
		{"", 0, "hongyan dev [flags]"},
		{"help", 0, "hongyan dev [flags]"},
		{"dev --help", 0, "hongyan dev [flags]"},
		{"version", 0, "hongyan "},
		{"frobnicate", 2, `unknown command "frobnicate"`},
		{"admin", 0, "hongyan admin volumes"},
		{"admin volumes --help", 0, "hongyan admin volumes 000000000000001f --server"},
		{"admin user list", 2, `unknown command "user"`},
		{"admin --dir X volumes", 1, "no cluster runs in X"},
		{"admin volumes --dir X zz", 2, `"zz" is not a volume's id`},
		{"admin status --token T --server 10.0.0.1:8080", 2, `"10.0.0.1:8080": expected --server URL, or HONGYAN_SERVER, such as http://10.0.0.1:8080`},
		{"admin status", 2, "expected --server URL and --token TOKEN"},
		{"bench deliver", 2, "unknown command \"deliver\"; see `hongyan bench help`"},
		{"bench help", 0, "hongyan bench failover"},
		{"bench failover --target lmtp://127.0.0.1:1", 2, "it needs a cluster of the lab"},
		{"bench all --kinds leader", 2, "--kinds is for one scenario"},
		{"bench failover --kinds foo", 2, "--kinds foo: expected some of [leader node region link pause disk]"},
		{"bench reading --kinds foo", 2, "--kinds foo: reading has none to choose from"},
		{"bench delivery --require no.such", 2, "--require"},
		{"bench delivery --dir " + filepath.Join(dir, "none"), 1, "no cluster is ready in"},
		{"bench compare " + filepath.Join(dir, "a") + " " + filepath.Join(dir, "b"), 1, "no such file or directory"},
		{"volume help", 0, "hongyan volume list DATA"},
		{"volume show", 2, `unknown command "show"`},
		{"volume list", 2, "expected data directories"},
		{"dev --dir X --colour red", 2, "flag provided but not defined: -colour"},
		{"dev frobnicate --dir X", 2, `unknown word "frobnicate"`},
		{"dev kill --dir X", 2, "dev kill: expected one node"},
		{"dev kill a --dir X", 1, "no cluster in X (start one with `hongyan dev --dir X`)"},
		{"dev --dir X status --json", 1, "no cluster in X"},
		{"dev cut a b --dir X", 1, "no cluster in X"},
		{"dev cut a b --delay 5ms", 2, "dev cut: --delay does not belong here"},
		{"dev cut", 2, "dev cut: expected one or two nodes or regions"},
		{"dev cut a b --one-way --reset", 2, "expected one of --one-way and --reset"},
		{"dev heal --dir X", 1, "no cluster in X"},
		{"dev heal a", 2, "dev heal: expected no further words"},
		{"dev link a b", 2, "dev link: expected --delay, --jitter, --rate, --late or --clear"},
		{"dev link a b --rate fast", 2, `dev link: --rate "fast": expected bytes a second such as 10MB`},
		{"dev link a b --late 1%", 2, `--late "1%": expected a share and a time such as 1%:1s`},
		{"dev link a b --delay 2h", 2, "dev link: delay 2h0m0s: expected 0 to 30s"},
		{"dev disk a", 2, "dev disk: expected a node and slow DURATION"},
		{"dev disk a slow", 2, `dev disk: "slow": expected slow DURATION`},
		{"dev disk a slow 2h", 2, `dev disk: "2h": expected a time up to 1m0s`},
		{"dev clock a later", 2, `dev clock: "later": expected how wrong`},
		{"dev clock a --dir X -10m", 1, "no cluster in X"},
		{"dev power-cut --dir X", 1, "no cluster in X"},
		{"dev --disk-size 5MB", 2, `--disk-size "5MB": expected 128MB to 1024GB`},
		{"dev --wan mars", 2, `--wan: "mars": expected none, china or REGION:REGION=RTT`},
		{"dev --wan south-china:Moon=1s", 2, "expected two regions such as south-china:overseas"},
		{"dev add", 2, "dev add: expected one region"},
		{"dev add south-china --roles storage,mail", 2, `dev add: --roles "storage,mail": expected storage, frontend or both`},
		{"dev add south-china --weight 9999999", 2, "dev add: --weight 9999999: expected 0 to"},
		{"dev add south-china --dir X", 1, "no cluster in X"},
		{"dev remove --dir X", 2, "dev remove: expected one node"},
		{"dev wipe a --weight 3", 2, "dev wipe: --weight does not belong here"},
		{"dev --wan china --no-relay", 2, "delays need the relays"},
		{"dev --restart sometimes", 2, "expected on-failure or never"},
		{"dev --regions south-china", 2, "expected NAME=COUNT"},
		{"dev --accounts -1", 2, "--accounts -1: expected"},
		{"node", 2, "expected --config FILE"},
		{"node --check --config " + right, 0, "node south-china-1 in south-china is well described"},
		{"node --check --config " + wrong, 1, wrong + ":24: shrads: unknown key; expected one of id, region"},
		{"node --check --config " + bare, 1, bare + ":38: server_tls.key: expected a file that can be read: open " + filepath.Join(dir, "none.key")},
		{"node --config " + filepath.Join(dir, "none.yaml"), 1, "none.yaml: no such file or directory"},
	}
	for _, tt := range tests {
		t.Run(tt.args, func(t *testing.T) {
			cmd := exec.Command(bin, strings.Fields(tt.args)...)
			cmd.Dir = dir
			var out, errs bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &errs
			err := cmd.Run()
			var exit *exec.ExitError
			if err != nil && !errors.As(err, &exit) {
				t.Fatal(err)
			}
			printed := out.String()
			if tt.status != 0 {
				printed = errs.String()
				if strings.Count(printed, "\n") != 1 || out.Len() > 0 {
					t.Errorf("want one line on standard error only, got %q and %q", printed, out.String())
				}
			}
			if got := cmd.ProcessState.ExitCode(); got != tt.status || !strings.Contains(printed, tt.want) {
				t.Errorf("status %d, printed %q; want %d and %q", got, printed, tt.status, tt.want)
			}
		})
	}
}
