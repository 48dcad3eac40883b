package pagefile

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"github.com/brazier-relay/brazier/cmd/brazier/cli"
	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/worker"
	"github.com/brazier-relay/brazier/worker/deliver"
)

// shown quotes a value in a fault, unless it is so long that it may be a secret in the wrong place.
func shown(v string) string {
	if len(v) > 24 {
		return fmt.Sprintf("(%d characters)", len(v))
	}
	return strconv.Quote(v)
}

// text returns a scalar as it is written. Numbers keep their digits: a page id without quotes is still an id. Where there
// is none it says so and reports false.
func (r *reader) text(n ast.Node, field string) (v string, ok bool) {
	if !r.plain(n, field) {
		return "", false
	}
	switch n := n.(type) {
	case *ast.StringNode:
		v = n.Value
	case *ast.LiteralNode:
		v = n.Value.Value
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		v = n.GetToken().Value
	case *ast.NullNode:
	default:
		r.fault(line(n), "%s is not a single value: write it in the same line", field)
		return "", false
	}
	if v = strings.TrimSpace(v); v == "" {
		r.fault(line(n), "%s is empty: give it a value or remove the line", field)
		return "", false
	}
	return v, true
}

func (r *reader) pageID(n ast.Node) string {
	id, ok := r.text(n, "id")
	if ok && strings.Trim(id, "0123456789") != "" {
		r.fault(line(n), "id %s is not a Facebook page id: digits only, as in the page's About section", shown(id))
		return ""
	}
	return id
}

// name is used in logs and on command lines.
func (r *reader) name(n ast.Node, field string) string {
	name, ok := r.text(n, field)
	if ok && (len(name) > 64 || strings.ContainsFunc(name, func(c rune) bool { return c <= ' ' || strings.ContainsRune("/\"'", c) })) {
		r.fault(line(n), "%s %s does not fit logs and commands: at most 64 characters, no spaces, quotes or slashes", field, shown(name))
		return ""
	}
	return name
}

// secret is a value that may be ${VARIABLE}, whose name is then returned too. Its text is in no fault.
func (r *reader) secret(n ast.Node, field string) (v, variable string) {
	v, ok := r.text(n, field)
	if !ok {
		return "", ""
	}
	if strings.Contains(v, "$") {
		name, begins := strings.CutPrefix(v, "${")
		name, ends := strings.CutSuffix(name, "}")
		// Small letters make it a secret in braces rather than a name.
		if !begins || !ends || name == "" || strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") != "" {
			r.fault(line(n), "%s is no variable: write ${NAME} with capitals, digits and _, and nothing beside it", field)
			return "", ""
		}
		if variable = name; r.WithoutSecrets {
			return "", variable
		}
		if v = strings.TrimSpace(os.Getenv(name)); v == "" {
			r.fault(line(n), "%s: the variable %s is not set: export it before the start", field, name)
			return "", variable
		}
	}
	if err := CheckSecret(v); err != nil {
		r.fault(line(n), "%s %v", field, err)
		return "", variable
	}
	return v, variable
}

// secretFile is a path, relative to the page file wherever the process was started. It is tried, unless that is for later.
func (r *reader) secretFile(n ast.Node, field string) string {
	path, ok := r.text(n, field)
	if !ok {
		return ""
	}
	if !filepath.IsAbs(path) {
		path = filepath.Join(filepath.Dir(r.file), path)
	}
	if r.WithoutSecrets || r.SecretsLater {
		return path
	}
	if _, err := readSecret(field, path, os.ReadFile); err != nil {
		r.fault(line(n), "%v", err)
	}
	return path
}

func (r *reader) keys(n ast.Node) [][sha256.Size]byte {
	const remedy = "write keys: [\"sha256:HEX\"]"
	list := r.list(n, "keys", remedy)
	if s, ok := n.(*ast.SequenceNode); ok && len(s.Values) == 0 {
		r.fault(line(n), "keys is empty, nobody could send for the page: %s", remedy)
	}
	keys := make([][sha256.Size]byte, 0, len(list))
	for _, item := range list {
		v, ok := r.text(item, "a key")
		if !ok {
			continue
		}
		digest, isDigest := strings.CutPrefix(v, "sha256:")
		b, err := hex.DecodeString(digest)
		if !isDigest || err != nil || len(b) != sha256.Size {
			r.fault(line(item), "a key is not \"sha256:\" and 64 hexadecimal digits: take it from brazier keys new, or from printf %%s KEY | sha256sum")
			continue
		}
		keys = append(keys, [sha256.Size]byte(b))
	}
	return keys
}

// MaxRate is the highest rate, in calls a second, of a page whose calls do not go to Facebook.
const MaxRate = 100_000

func (r *reader) rate(n ast.Node, field string, ceiling int) float64 {
	whose := "Facebook's limit"
	if r.LiftedRates {
		ceiling, whose = MaxRate, "the most"
	}
	v, ok := r.text(n, field)
	f, err := strconv.ParseFloat(v, 64)
	if ok && (err != nil || !(f >= worker.MinRate) || f > float64(ceiling)) {
		r.fault(line(n), "%s must be between %v and %d, %s of calls a second (got %s)", field, worker.MinRate, ceiling, whose, shown(v))
		return 0
	}
	return f
}

func (r *reader) count(n ast.Node, field string, ceiling int) int {
	v, ok := r.text(n, field)
	i, err := strconv.Atoi(v)
	if ok && (err != nil || i < 1 || i > ceiling) {
		r.fault(line(n), "%s must be a whole number between 1 and %d (got %s)", field, ceiling, shown(v))
		return 0
	}
	return i
}

// percent is a percentage as a part of 1.
func (r *reader) percent(n ast.Node, field string) float64 {
	v, ok := r.text(n, field)
	i, err := strconv.Atoi(strings.TrimSuffix(v, "%"))
	if ok && (err != nil || i < 1 || i > 100) {
		r.fault(line(n), "%s must be from 1%% to 100%% (got %s)", field, shown(v))
		return 0
	}
	return float64(i) / 100
}

func (r *reader) flag(n ast.Node, field string) bool {
	v, ok := r.text(n, field)
	if ok && v != "true" && v != "false" {
		r.fault(line(n), "%s must be true or false (got %s)", field, shown(v))
	}
	return v == "true"
}

func (r *reader) inDoubt(n ast.Node) deliver.InDoubt {
	v, ok := r.text(n, "in_doubt")
	if choice := deliver.InDoubt(v); choice == deliver.Resend || choice == deliver.Park {
		return choice
	}
	if ok {
		r.fault(line(n), "in_doubt must be resend or park (got %s)", shown(v))
	}
	return ""
}

// repeats is how often a message in doubt is sent again.
func (r *reader) repeats(n ast.Node) int {
	v, ok := r.text(n, "in_doubt_repeats")
	i, err := strconv.Atoi(v)
	if ok && (err != nil || i < 0 || i > deliver.MaxRepeats) {
		r.fault(line(n), "in_doubt_repeats must be from 0 to %d (got %s)", deliver.MaxRepeats, shown(v))
	}
	return i
}

func (r *reader) expire(n ast.Node) time.Duration {
	v, ok := r.text(n, "expire")
	d, err := cli.ParseDuration(v)
	if ok && (err != nil || d < time.Second || d > queue.MaxExpire) {
		r.fault(line(n), "expire must be between 1s and %.0fh, such as 90m, 24h or 3d (got %s)", queue.MaxExpire.Hours(), shown(v))
		return 0
	}
	return d
}
