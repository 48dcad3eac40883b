package process

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// newPair makes a certificate for 127.0.0.1 that signs itself, and its key, as PEM.
func newPair(t *testing.T, notAfter time.Time) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "brazier.example"}, NotAfter: notAfter,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string, b []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}))
	}
	return block("CERTIFICATE", der), block("PRIVATE KEY", secret)
}

// A new certificate is used without a restart; while the files are no good the old one stays, and that is logged once.
func TestCertificateIsReloaded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		f := IngressFlags{TLSCert: filepath.Join(dir, "cert.pem"), TLSKey: filepath.Join(dir, "key.pem")}
		soon, later := time.Now().Add(30*24*time.Hour).Truncate(time.Second), time.Now().Add(60*24*time.Hour).Truncate(time.Second)
		cert, key := newPair(t, soon)
		writeFile(t, f.TLSCert, cert)
		writeFile(t, f.TLSKey, key)
		seen, lines := observer.New(zap.InfoLevel)
		pair, err := f.certificate(zap.New(seen))
		if err != nil {
			t.Fatal(err)
		}
		all := newFiles(zap.NewNop())
		defer all.close()
		ctx, stop := context.WithCancel(t.Context())
		var following sync.WaitGroup
		following.Go(func() { pair.follow(ctx, all) })
		defer following.Wait()
		defer stop()
		config := pair.config()
		if config.MinVersion != tls.VersionTLS12 {
			t.Errorf("least version is %x", config.MinVersion)
		}
		expect := func(notAfter time.Time, events ...string) {
			t.Helper()
			for range 3 {
				<-time.After(readEvery + 1)
				pair, err := config.GetCertificate(nil)
				if err != nil || !pair.Leaf.NotAfter.Equal(notAfter) {
					t.Fatalf("certificate until %v, want %v, error %v", pair.Leaf.NotAfter, notAfter, err)
				}
			}
			var got []string
			for _, line := range lines.TakeAll() {
				fields := line.ContextMap()
				got = append(got, fields["event"].(string))
				if text, _ := fields["error"].(string); strings.Contains(text, key[40:80]) {
					t.Errorf("the key is logged: %s", text)
				}
			}
			if strings.Join(got, " ") != strings.Join(events, " ") {
				t.Errorf("events %v, want %v", got, events)
			}
		}
		expect(soon, "tls_certificate")
		next, nextKey := newPair(t, later)
		writeFile(t, f.TLSCert, next)
		expect(soon, "tls_error") // the key is the old one's
		writeFile(t, f.TLSKey, nextKey)
		expect(later, "tls_certificate")
		writeFile(t, f.TLSCert, "no certificate")
		expect(later, "tls_error")
		expired, expiredKey := newPair(t, time.Now().Add(-time.Minute))
		writeFile(t, f.TLSCert, expired)
		writeFile(t, f.TLSKey, expiredKey)
		expect(later, "tls_error")
		writeFile(t, f.TLSCert, cert)
		writeFile(t, f.TLSKey, key)
		expect(soon, "tls_certificate")

		writeFile(t, f.TLSCert, next) // at once after SIGHUP
		writeFile(t, f.TLSKey, nextKey)
		all.readAll()
		eventuallyIs(t, later.String(), func() string { pair, _ := config.GetCertificate(nil); return pair.Leaf.NotAfter.Local().String() })
		expect(later, "tls_certificate")

		near := time.Now().Add(time.Hour).Truncate(time.Second)
		ending, endingKey := newPair(t, near)
		writeFile(t, f.TLSCert, ending)
		writeFile(t, f.TLSKey, endingKey)
		expect(near, "tls_certificate", "certificate_expires")
	})
}

// The end of a certificate is warned of at the start where it is near, else when it is, and then each day until there is another.
func TestCertificateExpires(t *testing.T) {
	const day = 24 * time.Hour
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		f := IngressFlags{TLSCert: filepath.Join(dir, "cert.pem"), TLSKey: filepath.Join(dir, "key.pem")}
		use := func(notAfter time.Time) {
			cert, key := newPair(t, notAfter)
			writeFile(t, f.TLSCert, cert)
			writeFile(t, f.TLSKey, key)
		}
		use(time.Now().Add(20 * day))
		seen, lines := observer.New(zap.InfoLevel)
		pair, err := f.certificate(zap.New(seen))
		if err != nil {
			t.Fatal(err)
		}
		expiry := expiryWarning{c: pair}
		expect := func(after time.Duration, warn, failed int) {
			t.Helper()
			for range after / expiryLook {
				time.Sleep(expiryLook)
				expiry.warn()
			}
			var got [2]int
			for _, line := range lines.TakeAll() {
				if line.ContextMap()["event"] != "certificate_expires" {
					continue
				}
				if got[0]++; line.Level == zap.ErrorLevel {
					got[0], got[1] = got[0]-1, got[1]+1
				}
			}
			if got != [2]int{warn, failed} {
				t.Errorf("after %v %d warnings and %d errors, want %d and %d", after, got[0], got[1], warn, failed)
			}
		}
		expect(5*day, 0, 0) // 15 days are left
		expect(day, 1, 0)
		expect(3*day, 3, 0)
		expect(13*day, 10, 3)
		use(time.Now().Add(90 * day))
		taken, err := f.ReadCertificate()
		if err != nil {
			t.Fatal(err)
		}
		pair.pair.Store(taken)
		expect(30*day, 0, 0)
	})
}

func TestCertificateFlags(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	certPEM, keyPEM := newPair(t, time.Now().Add(time.Hour))
	writeFile(t, cert, certPEM)
	writeFile(t, key, keyPEM)
	for _, c := range []struct{ cert, key, want string }{
		{"", "", ""},
		{cert, key, ""},
		{cert, "", "--tls-key: is required"},
		{"", key, "--tls-cert: is required"},
		{cert + "x", key, "--tls-cert: open "},
		{cert, dir, "--tls-key: read "},
		{cert, cert, "--tls-cert, --tls-key: tls: "},
	} {
		config, err := IngressFlags{TLSCert: c.cert, TLSKey: c.key}.certificate(zap.NewNop())
		if (err == nil) != (c.want == "") || (err != nil && !strings.HasPrefix(err.Error(), c.want)) {
			t.Errorf("%q, %q: error %v, want %q", c.cert, c.key, err, c.want)
		}
		if (config != nil) != (c.cert == cert && c.key == key) {
			t.Errorf("%q, %q: configuration %v", c.cert, c.key, config)
		}
	}
}
