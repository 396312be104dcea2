// Package dictionary keeps a node's compression dictionaries: it learns those that the directory has, gives the newest to whoever
// compresses mail, and trains new ones.
//
// Storage nodes train, each at random times, on a sample of the mail in their own copies of volumes, while the newest dictionary is a day old
// or there is none. What may be in a dictionary is package engine/dictionary's business: nothing that is not in many accounts' mail. It is
// entered in the directory only if it makes mail that it was not trained on so much smaller than the present one that it is worth the
// room; of two nodes that trained at once the first wins. From there every node learns it within seconds; a frontend's node
// without a replica asks one that has it.
//
// Invariants:
//
//   - A volume that needs a dictionary has it (engine/volume), so nothing stored depends on the directory or on this package. What is
//     lost here costs compression, not mail.
//   - A number names the same bytes for ever: the directory gives numbers once.
//
// What a crash leaves behind: at most a training that has to be made again.
package dictionary
