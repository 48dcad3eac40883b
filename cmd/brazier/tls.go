package main

import (
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"go.uber.org/zap"
)

// certificate is what the door shows in TLS. Its files are read again every few seconds while there are handshakes, so that
// a renewed certificate is used without a restart. It is safe for concurrent use.
type certificate struct {
	certFile, keyFile string
	log               *zap.Logger

	mu      sync.Mutex
	checked time.Time
	files   [sha256.Size]byte // digest of what pair was made of
	pair    *tls.Certificate
	refused string // what was wrong with the files when they were last read; logged once
}

// certificate returns nil where the door speaks plain HTTP. Errors name the flags.
func (f doorFlags) certificate(log *zap.Logger) (*certificate, error) {
	switch {
	case f.TLSCert == "" && f.TLSKey == "":
		return nil, nil
	case f.TLSCert == "":
		return nil, errors.New("--tls-cert is missing: --tls-key goes with it")
	case f.TLSKey == "":
		return nil, errors.New("--tls-key is missing: --tls-cert goes with it")
	}
	c := &certificate{certFile: f.TLSCert, keyFile: f.TLSKey, log: log, checked: time.Now()}
	pair, files, err := c.read()
	if err != nil {
		return nil, err
	}
	c.pair, c.files = pair, files
	c.announce()
	return c, nil
}

// config is for TLS 1.3 and 1.2 with the suites that Go still has on by default.
func (c *certificate) config() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: c.current}
}

func (c *certificate) announce() {
	c.log.Info("TLS certificate", zap.String("event", "tls_certificate"), zap.Time("not_after", c.pair.Leaf.NotAfter))
}

func (c *certificate) read() (*tls.Certificate, [sha256.Size]byte, error) {
	var digest [sha256.Size]byte
	cert, err := os.ReadFile(c.certFile)
	if err != nil {
		return nil, digest, fmt.Errorf("--tls-cert: %w: check the path and its permissions", err)
	}
	key, err := os.ReadFile(c.keyFile)
	if err != nil {
		return nil, digest, fmt.Errorf("--tls-key: %w: check the path and its permissions", err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, digest, fmt.Errorf("--tls-cert, --tls-key: %w: give a PEM file with the certificate and those between it and the authority, and one with its key", err)
	}
	return &pair, sha256.Sum256(append(cert, key...)), nil
}

// current is for tls.Config.GetCertificate.
func (c *certificate) current(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.checked) > recheck {
		c.checked = time.Now()
		c.reload()
	}
	return c.pair, nil
}

// readAgain looks at the files now.
func (c *certificate) readAgain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.checked = time.Now()
	c.reload()
}

// reload takes the files over if they are good. c.mu is held. Otherwise what was good before stays: one of the files may be new and the
// other about to be.
func (c *certificate) reload() {
	pair, files, err := c.read()
	if err == nil && files == c.files {
		c.refused = ""
		return
	}
	if err == nil && time.Now().After(pair.Leaf.NotAfter) {
		err = fmt.Errorf("--tls-cert: the certificate has expired at %s: renew it", pair.Leaf.NotAfter.Format(time.RFC3339))
	}
	if err != nil {
		if err.Error() != c.refused {
			c.refused = err.Error()
			c.log.Error("TLS certificate not taken over", zap.String("event", "tls_error"), zap.Error(err), zap.Time("not_after", c.pair.Leaf.NotAfter))
		}
		return
	}
	c.pair, c.files, c.refused = pair, files, ""
	c.announce()
}
