package queue_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/queuetest"
)

// proof is one way to prove to a server who one is: what the files hold, and a server that takes that alone.
type proof struct {
	files  map[string]string // content by the file's name
	secret string            // must not be logged
	server func(*server.Options)
}

func password(secret string) proof {
	return proof{map[string]string{"password": secret + "\n"}, secret, func(o *server.Options) {
		o.Users = []*server.User{{Username: "worker", Password: secret}}
	}}
}

func newNkey(t *testing.T) proof {
	t.Helper()
	pair, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	seed, err := pair.Seed()
	if err != nil {
		t.Fatal(err)
	}
	public, err := pair.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return proof{map[string]string{"nkey": string(seed) + "\n"}, string(seed), func(o *server.Options) {
		o.Nkeys = []*server.NkeyUser{{Nkey: public}}
	}}
}

// newCertificate signs everything with an authority of its own: the client's certificate, and the server's.
func newCertificate(t *testing.T) proof {
	t.Helper()
	authority := certify(t, "authority", nil)
	client, srv := certify(t, "worker", authority), certify(t, "nats", authority)
	files := map[string]string{"cert": client.cert, "key": client.key, "ca": authority.cert}
	return proof{files, client.key, func(o *server.Options) {
		pair, err := tls.X509KeyPair([]byte(srv.cert), []byte(srv.key))
		if err != nil {
			t.Fatal(err)
		}
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM([]byte(authority.cert))
		o.TLSConfig = &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS12}
		o.TLS, o.TLSVerify, o.TLSMap = true, true, true
		o.Users = []*server.User{{Username: "CN=worker"}}
	}}
}

// pair is a certificate and its private key, both as PEM.
type pair struct {
	cert, key string
	parsed    *x509.Certificate
	private   *ecdsa.PrivateKey
}

// certify makes a certificate for 127.0.0.1. Without an authority it is one itself.
func certify(t *testing.T, name string, authority *pair) *pair {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p := &pair{private: private, parsed: &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: authority == nil, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}}
	if authority == nil {
		authority = p
	}
	der, err := x509.CreateCertificate(rand.Reader, p.parsed, authority.parsed, &private.PublicKey, authority.private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	p.cert = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	p.key = string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}))
	return p
}

// write puts the files into a directory, each as a whole, as whoever replaces them should.
func (p proof) write(t *testing.T, dir string) {
	t.Helper()
	for name, content := range p.files {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path+".new", []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
}

// Each way to prove who one is opens a queue, and after the files and the server's users were replaced the queue goes on with the
// new ones, without another Open. Another proof than the server's opens nothing. No secret is in a log.
func TestCredentials(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		before, after proof
		credentials   func(dir string) queue.Credentials
	}{
		"password": {password("first-secret"), password("second-secret"), func(dir string) queue.Credentials {
			return queue.Credentials{User: "worker", PasswordFile: dir + "/password"}
		}},
		"nkey": {newNkey(t), newNkey(t), func(dir string) queue.Credentials { return queue.Credentials{NkeyFile: dir + "/nkey"} }},
		"certificate": {newCertificate(t), newCertificate(t), func(dir string) queue.Credentials {
			return queue.Credentials{CertFile: dir + "/cert", KeyFile: dir + "/key", CAFile: dir + "/ca"}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, opts := t.TempDir(), &server.Options{Host: "127.0.0.1", Port: queuetest.FreePort(t), NoSigs: true, NoLog: true, JetStream: true, StoreDir: t.TempDir()}
			start := func(p proof) *server.Server {
				o := opts.Clone()
				p.server(o)
				return startServer(t, o)
			}
			c.before.write(t, dir)
			srv := start(c.before)
			core, lines := observer.New(zap.DebugLevel)
			cfg := queue.Config{URL: fmt.Sprintf("nats://127.0.0.1:%d", opts.Port), Credentials: c.credentials(dir), Log: zap.New(core)}
			if err := cfg.ValidateFiles(); err != nil {
				t.Fatal(err)
			}
			q, err := queue.Open(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer q.Close()
			publish := func() error { _, err := q.Publish(t.Context(), job(acme, queue.Bulk)); return err }
			if err := publish(); err != nil {
				t.Fatal(err)
			}
			c.after.write(t, dir)
			srv.Shutdown()
			srv.WaitForShutdown()
			eventually(t, "the connection is lost", func() bool { return !q.Connected() })
			start(c.after)
			eventually(t, "the queue is connected with the new files", q.Connected)
			if err := publish(); err != nil {
				t.Fatal(err)
			}
			c.before.write(t, dir)
			if !refused(t, cfg) {
				t.Error("a queue opens with what the server does not take any more")
			}
			for _, line := range lines.All() {
				for _, secret := range []string{c.before.secret, c.after.secret} {
					if strings.Contains(fmt.Sprint(line.Message, line.ContextMap()), secret) {
						t.Errorf("a secret is in %v", line)
					}
				}
			}
		})
	}
}

// refused opens a queue until it fails or waits: a server that refuses a certificate is waited for.
func refused(t *testing.T, cfg queue.Config) bool {
	t.Helper()
	w, opened := openWatched(t, cfg)
	var err error
	eventually(t, "it opens, fails or waits", func() bool {
		select {
		case err = <-opened:
			return true
		default:
			return w.lines.FilterField(zap.String("event", "waiting")).Len() > 0
		}
	})
	return err != nil || !w.Connected()
}

// While the file of the password cannot be read the last password is used, and the log says so.
func TestPasswordFileVanishes(t *testing.T) {
	t.Parallel()
	dir, opts := t.TempDir(), &server.Options{Host: "127.0.0.1", Port: queuetest.FreePort(t), NoSigs: true, NoLog: true, JetStream: true, StoreDir: t.TempDir()}
	p := password("a-secret")
	p.server(opts)
	p.write(t, dir)
	srv := startServer(t, opts.Clone())
	core, lines := observer.New(zap.WarnLevel)
	q, err := queue.Open(t.Context(), queue.Config{URL: srv.ClientURL(), Log: zap.New(core), Credentials: queue.Credentials{User: "worker", PasswordFile: dir + "/password"}})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	if err := os.Remove(dir + "/password"); err != nil {
		t.Fatal(err)
	}
	srv.Shutdown()
	srv.WaitForShutdown()
	startServer(t, opts.Clone())
	eventually(t, "it is said that the file cannot be read", func() bool {
		return lines.FilterField(zap.String("event", "nats_password_error")).FilterField(zap.String("path", dir+"/password")).Len() > 0
	})
	eventually(t, "the queue is connected", q.Connected)
}

func TestCredentialFaults(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		cfg    queue.Config
		fields []string
	}{
		{queue.Config{Credentials: queue.Credentials{User: "a", PasswordFile: "b", CertFile: "c", KeyFile: "d", CAFile: "e"}}, nil},
		{queue.Config{Credentials: queue.Credentials{User: "a"}}, []string{"User"}},
		{queue.Config{Credentials: queue.Credentials{PasswordFile: "a", CertFile: "c"}}, []string{"PasswordFile", "CertFile"}},
		{queue.Config{Credentials: queue.Credentials{KeyFile: "a"}}, []string{"KeyFile"}},
		{queue.Config{Credentials: queue.Credentials{CredentialsFile: "a", User: "b", PasswordFile: "c", NkeyFile: "d"}}, []string{"User", "NkeyFile"}},
		{queue.Config{URL: "nats://u:p@h:4222", Credentials: queue.Credentials{User: "b", PasswordFile: "c"}}, []string{"User"}},
		{queue.Config{URL: "nats://token@h:4222", Credentials: queue.Credentials{NkeyFile: "d"}}, []string{"NkeyFile"}},
	} {
		if got := faultyFields(c.cfg.Validate()); !slices.Equal(got, c.fields) {
			t.Errorf("%+v: faults of %v, want %v", c.cfg.Credentials, got, c.fields)
		}
	}
}

// faultyFields returns the fields that a joined error is about.
func faultyFields(err error) (fields []string) {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return nil
	}
	for _, one := range joined.Unwrap() {
		if bad, ok := errors.AsType[*queue.ConfigError](one); ok {
			fields = append(fields, bad.Field)
		}
	}
	return fields
}

// Files that cannot be used are named, each with its field, and what is in them is not.
func TestCredentialFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	newCertificate(t).write(t, dir)
	for name, content := range map[string]string{"empty": " \n", "text": "not-a-secret-of-this-kind\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name        string
		credentials queue.Credentials
		fields      []string
	}{
		{"missing", queue.Credentials{CredentialsFile: dir + "/none", PasswordFile: dir + "/none", NkeyFile: dir + "/none", CertFile: dir + "/none", KeyFile: dir + "/none", CAFile: dir + "/none"},
			[]string{"CredentialsFile", "PasswordFile", "NkeyFile", "CertFile", "CAFile"}},
		{"empty", queue.Credentials{PasswordFile: dir + "/empty", NkeyFile: dir + "/empty", CertFile: dir + "/empty", KeyFile: dir + "/key", CAFile: dir + "/empty"},
			[]string{"PasswordFile", "NkeyFile", "CertFile", "CAFile"}},
		{"another kind", queue.Credentials{NkeyFile: dir + "/text", CertFile: dir + "/cert", KeyFile: dir + "/text", CAFile: dir + "/text"}, []string{"NkeyFile", "CertFile", "CAFile"}},
		{"good", queue.Credentials{PasswordFile: dir + "/text", CertFile: dir + "/cert", KeyFile: dir + "/key", CAFile: dir + "/ca"}, nil},
	} {
		err := c.credentials.ValidateFiles()
		if got := faultyFields(err); !slices.Equal(got, c.fields) {
			t.Errorf("%s: faults of %v, want %v: %v", c.name, got, c.fields, err)
		}
		if err != nil && strings.Contains(err.Error(), "not-a-secret") {
			t.Errorf("%s: the content is in %v", c.name, err)
		}
	}
}
