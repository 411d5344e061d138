const fault = element.querySelector(".fault");

function hand(file) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([unpack(file.data, Uint8Array)]));
  link.download = file.name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

async function download(button) {
  button.disabled = true;
  fault.textContent = "";
  const file = await server.file([props.value, button.dataset.kind]).catch(() => null);
  button.disabled = false;
  if (file && file.data) hand(file);
  else fault.textContent = (file && file.error) || "The server did not answer: try again.";
}

function enable() {
  for (const button of element.querySelectorAll("button")) button.disabled = !props.value;
}

element.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button) download(button);
});
watch("value", enable);
enable();
