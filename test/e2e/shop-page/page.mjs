import './telemetry.mjs';

const output = document.querySelector('#order');

document.querySelector('#show').addEventListener('click', async () => {
  const response = await fetch('/api/orders/7');
  output.textContent = JSON.stringify(await response.json());
});
