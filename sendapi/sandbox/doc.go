// Package sandbox simulates Facebook's Messenger Send API.
package sandbox
