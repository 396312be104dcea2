package exact

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// dovecotConf runs everything as one user, on loopback, with a password for all.
const dovecotConf = `base_dir = %[1]s/run
log_path = %[1]s/log
protocols = imap
listen = 127.0.0.1
ssl = yes
ssl_cert = <%[1]s/cert.pem
ssl_key = <%[1]s/key.pem
default_internal_user = dovecot
default_login_user = dovenull
mail_max_userip_connections = 10000
default_process_limit = 2000
default_client_limit = 6000
mail_location = mdbox:%[1]s/mail/%%u
mail_uid = 1000
mail_gid = 1000
first_valid_uid = 1000
passdb {
  driver = static
  args = password=secret
}
userdb {
  driver = static
  args = uid=1000 gid=1000 home=%[1]s/mail/%%u allow_all_users=yes
}
service imap-login {
  inet_listener imap {
    port = 0
  }
  inet_listener imaps {
    port = %[2]d
    ssl = yes
  }
}
namespace inbox {
  inbox = yes
}
`

// startDovecot runs one, with further settings. Without it the test is skipped.
func startDovecot(t testing.TB, settings string) server {
	program, err := exec.LookPath("dovecot")
	if err != nil {
		program = "/usr/sbin/dovecot"
	}
	if _, err := os.Stat(program); err != nil {
		t.Skip("needs Dovecot: apt-get install dovecot-imapd")
	}
	if os.Getuid() != 0 {
		t.Skip("needs to be root: Dovecot's processes change their user")
	}
	dir, err := os.MkdirTemp("/tmp", "dovecot-") // a folder that its user may pass
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	port := freePort(t)
	for _, step := range []func() error{
		func() error { return os.Chmod(dir, 0o755) },
		func() error { return os.Mkdir(filepath.Join(dir, "mail"), 0o700) },
		func() error { return os.Chown(filepath.Join(dir, "mail"), 1000, 1000) },
		func() error { return certificate(dir) },
		func() error {
			return os.WriteFile(filepath.Join(dir, "dovecot.conf"), append(fmt.Appendf(nil, dovecotConf, dir, port), settings+"\n"...), 0o600)
		},
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	pid := run(t, dir, program, "-F", "-c", filepath.Join(dir, "dovecot.conf"))
	s := server{imaps: fmt.Sprintf("127.0.0.1:%d", port), pid: pid}
	eventually(t, "Dovecot listens", func() error {
		c, err := net.Dial("tcp", s.imaps)
		if err == nil {
			err = c.Close()
		}
		return err
	})
	return s
}

func freePort(t testing.TB) int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// certificate writes cert.pem and key.pem.
func certificate(dir string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "exact.test"}, NotAfter: time.Now().Add(time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	for name, block := range map[string]*pem.Block{"cert.pem": {Type: "CERTIFICATE", Bytes: cert}, "key.pem": {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			return err
		}
	}
	return nil
}
