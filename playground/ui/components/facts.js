const box = element.querySelector(".facts");

function show() {
  const value = props.value;
  box.hidden = !value;
  if (!value) return;
  box.querySelector(".title").textContent = value.title;
  box.querySelector("dl").replaceChildren(...value.pairs.map(([label, figure]) => {
    const pair = make("div", "pair");
    pair.append(make("dt", "", label), make("dd", "", figure));
    return pair;
  }));
  const note = box.querySelector(".note");
  note.textContent = value.note;
  note.classList.toggle("warning", value.warning);
}

watch("value", show);
show();
