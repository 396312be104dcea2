package people

import (
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hongyan/bench/load"
	"hongyan/cluster/pki"
)

// dovecotConf is a Dovecot 2.3 that takes everybody with the password secret. DIR, BASE and the ports are filled in.
const dovecotConf = `
base_dir = DIR/run
log_path = DIR/log
listen = 127.0.0.1
protocols = imap pop3 lmtp
ssl = yes
ssl_cert = <DIR/server.pem
ssl_key = <DIR/server.key
disable_plaintext_auth = no
mail_location = mdbox:DIR/mail/%u
first_valid_uid = 1
mail_max_userip_connections = 10000
passdb {
  driver = static
  args = password=secret
}
userdb {
  driver = static
  args = uid=nobody gid=nogroup home=DIR/mail/%u allow_all_users=yes
}
service imap-login {
  inet_listener imap {
    port = BASE01
  }
  inet_listener imaps {
    port = BASE02
    ssl = yes
  }
}
service pop3-login {
  inet_listener pop3 {
    port = BASE03
  }
  inet_listener pop3s {
    port = BASE04
    ssl = yes
  }
}
service lmtp {
  inet_listener lmtp {
    address = 127.0.0.1
    port = BASE05
  }
}
`

// TestDovecot runs the same against a server that is not ours.
func TestDovecot(t *testing.T) {
	bin, err := exec.LookPath("dovecot")
	if err != nil || os.Getuid() != 0 {
		t.Skip("needs dovecot 2.3 (Debian: dovecot-imapd, dovecot-pop3d, dovecot-lmtpd) and root")
	}
	if testing.Short() {
		t.Skip("runs a server")
	}
	dir, err := os.MkdirTemp("", "dovecot") // short: it has Unix sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	base := fmt.Sprint(freeBase(t) / 100)
	conf := strings.NewReplacer("DIR", dir, "BASE", base).Replace(dovecotConf)
	for _, err := range []error{os.Chmod(dir, 0o755), os.Mkdir(filepath.Join(dir, "mail"), 0o777), os.Chmod(filepath.Join(dir, "mail"), 0o777),
		os.WriteFile(filepath.Join(dir, "conf"), []byte(conf), 0o644)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	ca, err := pki.EnsureCA(dir)
	if err == nil {
		err = ca.EnsureServer([]string{"example.test"}, nil, filepath.Join(dir, "server.pem"), filepath.Join(dir, "server.key"))
	}
	if err != nil {
		t.Fatal(err)
	}
	run(t, exec.Command(bin, "-F", "-c", filepath.Join(dir, "conf")))
	target := dovecotTarget(t, dir, base)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		c, err := net.Dial("tcp", target.Nodes[0].IMAP)
		if err == nil {
			_ = c.Close() // only whether it could be opened counts
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	exercise(t, target)
}

func dovecotTarget(t *testing.T, dir, base string) load.Target {
	accounts, err := load.NumberedAccounts("u%04d@example.test:secret", 6)
	if err != nil {
		t.Fatal(err)
	}
	var roots *tls.Config
	if roots, err = load.TrustFile(filepath.Join(dir, "ca.pem"), "localhost"); err != nil {
		t.Fatal(err)
	}
	at := "://127.0.0.1:" + base
	target, err := load.ParseTarget("dovecot", []string{"imap" + at + "01", "imaps" + at + "02", "pop3" + at + "03", "pop3s" + at + "04", "lmtp" + at + "05"}, accounts, roots)
	if err != nil {
		t.Fatal(err)
	}
	return target
}
