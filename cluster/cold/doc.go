// Package cold moves volumes that are seldom read from whole copies to Reed–Solomon fragments, reads messages from these,
// and keeps them whole (engine/cold has the files).
//
// A volume turns cold once in its life, unless it is thawed. Steps, named by number in the code:
//
//  1. Choose. The first of its copies' nodes that is up converts a sealed volume that is old enough. Its copy is verified first,
//     every byte of it: what is coded damaged stays damaged.
//  2. Place. Every fragment gets a node, so that no region and no node holds more than m of them: any region may be lost. Without
//     such a placement (4+2 needs three regions) the volume stays as it is.
//  3. Encode. The copy is read once; every fragment goes to its node as a stream while it is made. Each node gets the record index
//     and, of an encrypted volume, the keys as well. An attempt that breaks leaves drafts, which the next one goes on with.
//  4. Finish. Each node fsyncs its fragment, reads it back, and gives it its name.
//  5. Freeze. The directory replaces the copies by the fragments, if nothing has happened to the volume meanwhile (Entry.Attempt).
//  6. Drop. Every node that has a copy asks all fragments' nodes whether theirs is whole, and has them destroy the keys that are
//     destroyed here; only then it removes its file.
//
// Afterwards each node looks after its own fragments: one that is missing or damaged is computed from k others (a rebuild resumes
// like a conversion), and all are read again every week. A fragment of a node that is drained, lost, gone, or
// has been down for a day, moves: it is made on another node from k others first, and named there when it is whole.
//
// A message is found in a cold volume by the record index, decrypted by its key, and read from the blocks that hold it.
// Any node with a fragment can do that; the others ask one of these.
//
// Invariants:
//
//   - I1. A whole copy is removed only while the directory says that the volume is cold and every fragment was just confirmed durable.
//   - I2. A fragment that the directory names is never removed or replaced by one of another layout, nor removed while it may be about to be named, or while
//     fewer than two copies that a thaw put in its place are known to be whole. Nor is one that is named on another node before that has it.
//   - I3. A record's key that is destroyed in one place is destroyed in all before its copy is dropped.
//   - I4. Conversion, rebuild, verification run one at a time on a node, at a bounded rate and in bounded memory.
//
// What a crash leaves behind: drafts, or fragments of a volume that was not frozen; the next attempt uses them, or the sweep removes
// them after a while. Copies of a frozen volume that were not dropped are dropped after the next start.
package cold
