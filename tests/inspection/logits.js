// Run in the page of a model: the logits before each character of a text and after the last one.
(text) => {
  restart();
  const rows = [Array.from(model.logits())];
  for (const id of encode(text)) { model.read(id); rows.push(Array.from(model.logits())); }
  return rows;
}
