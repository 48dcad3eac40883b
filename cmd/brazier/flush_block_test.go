package main

import (
	"encoding/binary"
	"strings"
)

// blockRecord is one record of a block file.
type blockRecord struct {
	removal               bool // of a message, a tombstone
	subject, header, body string
}

// records reads what filestore.go (writeMsgRecordLocked) writes: length with a bit for a header, sequence with a bit for
// a removal, time, subject with its length, header with its length if there is one, body, checksum.
func records(data string) (found []blockRecord) {
	const hasHeader, isRemoval = 1 << 31, 1 << 62
	for b := []byte(data); len(b) >= 30; {
		sizeBits := binary.LittleEndian.Uint32(b)
		size := int(sizeBits &^ hasHeader)
		if size < 30 || size > len(b) {
			return found
		}
		rec := blockRecord{removal: binary.LittleEndian.Uint64(b[4:])&isRemoval != 0}
		after := 22 + int(binary.LittleEndian.Uint16(b[20:]))
		rec.subject = string(b[22:after])
		if sizeBits&hasHeader != 0 {
			after += 4
			end := after + int(binary.LittleEndian.Uint32(b[after-4:]))
			rec.header, after = string(b[after:end]), end
		}
		rec.body = string(b[after : size-8])
		found = append(found, rec)
		b = b[size:]
	}
	return found
}

// unquoted returns the string among a call's arguments, as C writes it.
func unquoted(args string) string {
	_, s, ok := strings.Cut(args, `"`)
	if !ok {
		return ""
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; c {
		case '"':
			return b.String()
		case '\\':
			i++
			if s[i] < '0' || s[i] > '7' {
				b.WriteByte(unescaped(s[i]))
				continue
			}
			n := s[i] - '0'
			for range 2 {
				if s[i+1] < '0' || s[i+1] > '7' {
					break
				}
				i++
				n = n<<3 | (s[i] - '0')
			}
			b.WriteByte(n)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

func unescaped(c byte) byte {
	const names, bytes = `abtnvfr`, "\a\b\t\n\v\f\r"
	if i := strings.IndexByte(names, c); i >= 0 {
		return bytes[i]
	}
	return c
}
