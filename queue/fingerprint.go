package queue

import (
	"crypto/sha256"
	"encoding/base64"
	"strings"
)

// fingerprint distinguishes a job from others that are published under its id. Recipient and Body are digests, Nonce is
// another in each call of Publish. The job has its fingerprint in a header, the record in a field.
type fingerprint struct{ Recipient, Body, Nonce string }

func (f fingerprint) String() string { return f.Recipient + "." + f.Body + "." + f.Nonce }

func parseFingerprint(s string) (f fingerprint) {
	f.Recipient, s, _ = strings.Cut(s, ".")
	f.Body, f.Nonce, _ = strings.Cut(s, ".")
	return f
}

func (j *Job) newFingerprint() fingerprint {
	return fingerprint{Recipient: j.RecipientDigest, Body: digest(j.Body), Nonce: NewID()[:12]}
}

// digest has 72 bits, so that two texts do not have the same one by chance.
func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return base64.RawStdEncoding.EncodeToString(sum[:9])
}
