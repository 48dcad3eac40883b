package main

import (
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
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "relay.example"}, NotAfter: notAfter,
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

// A new certificate is used without a restart; while the files are no good the old one stays, and that is said once.
func TestCertificateIsReloaded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		f := doorFlags{TLSCert: filepath.Join(dir, "cert.pem"), TLSKey: filepath.Join(dir, "key.pem")}
		soon, later := time.Now().Add(time.Hour).Truncate(time.Second), time.Now().Add(2*time.Hour).Truncate(time.Second)
		cert, key := newPair(t, soon)
		writeFile(t, f.TLSCert, cert)
		writeFile(t, f.TLSKey, key)
		seen, lines := observer.New(zap.InfoLevel)
		pair, err := f.certificate(zap.New(seen))
		if err != nil {
			t.Fatal(err)
		}
		config := pair.config()
		if config.MinVersion != tls.VersionTLS12 {
			t.Errorf("least version is %x", config.MinVersion)
		}
		expect := func(notAfter time.Time, events ...string) {
			t.Helper()
			for range 3 {
				<-time.After(recheck + 1)
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

		writeFile(t, f.TLSCert, next) // after SIGHUP at once
		writeFile(t, f.TLSKey, nextKey)
		if pair.readAgain(); lines.Len() != 1 {
			t.Errorf("read again: %v", lines.All())
		}
		expect(later, "tls_certificate")
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
		{cert, "", "--tls-key is missing"},
		{"", key, "--tls-cert is missing"},
		{cert + "x", key, "--tls-cert: open "},
		{cert, dir, "--tls-key: read "},
		{cert, cert, "--tls-cert, --tls-key: tls: "},
	} {
		config, err := doorFlags{TLSCert: c.cert, TLSKey: c.key}.certificate(zap.NewNop())
		if (err == nil) != (c.want == "") || (err != nil && !strings.HasPrefix(err.Error(), c.want)) {
			t.Errorf("%q, %q: error %v, want %q", c.cert, c.key, err, c.want)
		}
		if (config != nil) != (c.cert == cert && c.key == key) {
			t.Errorf("%q, %q: configuration %v", c.cert, c.key, config)
		}
	}
}
