package ingress

import (
	"net/http"
	"strings"
)

// route returns the page of a Send API path, "me" or a page id: /{page}/messages with or without a version before it.
// http.ServeMux would answer some paths with a redirect, which Braze does not follow.
func route(path string) (page string, ok bool) {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	if len(parts) == 3 && isVersion(parts[0]) {
		parts = parts[1:]
	}
	if len(parts) != 2 || parts[1] != "messages" || (parts[0] != "me" && !isDigits(parts[0])) {
		return "", false
	}
	return parts[0], true
}

// isWebhook reports whether a path is that of webhooks, which may end in a slash as the others may.
func isWebhook(path string) bool { return strings.Trim(path, "/") == "webhook" }

// noRoute says what is wrong with a path. Batches and uploads, which Graph has and Brazier has not, are named.
func noRoute(r *http.Request) string {
	path := strings.Trim(r.URL.Path, "/")
	last := path[strings.LastIndexByte(path, '/')+1:]
	switch {
	case r.Method != http.MethodPost:
	case path == "" || isVersion(path):
		return "batches are not supported here: post each message by itself to /v25.0/me/messages"
	case last == "message_attachments":
		return "uploads are not supported here: give the URL of the file in the message"
	}
	return "no such path: post to /v25.0/me/messages"
}

func isVersion(s string) bool {
	major, minor, ok := strings.Cut(s, ".")
	return ok && strings.HasPrefix(major, "v") && isDigits(major[1:]) && isDigits(minor)
}

func isDigits(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }
