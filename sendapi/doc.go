// Package sendapi is what Facebook's Messenger Send API accepts and answers.
package sendapi
